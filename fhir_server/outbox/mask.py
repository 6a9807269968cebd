"""Mask: what one recipient of pushes gets of what is stored, and what they know it by (0031)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from fhir_server.core import resource_json
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.security.deidentify import Masks, days_of, deidentify
from fhir_server.core.security.deidentify_policy import DeidentificationPolicy
from fhir_server.core.version import Version
from fhir_server.errors import StoreUnavailable

PSEUDONYM_SYSTEM = "https://pmp.example/fhir/NamingSystem/pseudonym"
"""Of a pseudonym where it stands as an identifier."""

NOTHING_LEFT = "the recipient's policy leaves nothing of it"


class KeysAwayError(StoreUnavailable):
    """The keys of pseudonyms cannot be used: nothing can be given, the source least of all."""


class Mask:
    """Safe from any thread; everything here may wait for the file of keys.

    `find` tells whose a pseudonym is. All methods raise `KeysAwayError`.
    """

    def __init__(
        self,
        policy: DeidentificationPolicy,
        masks: Masks,
        types: ElementTypes,
        find: Callable[[str], ResourceKey | None],
    ) -> None:
        self._policy = policy
        self._masks = masks
        self._types = types
        self._find = find

    @property
    def recipient(self) -> str:
        return self._policy.recipient

    def remembering(self, remember: Callable[[ResourceKey, ResourceKey], None]) -> "Mask":
        """The same, and `remember` hears of each key what the recipient knows it by."""
        name = self._masks.pseudonym

        def told(key: ResourceKey) -> str:
            given = name(key)
            remember(key, ResourceKey(key.resource_type, given))
            return given

        masks = Masks(told, self._masks.days, self._masks.digest)
        return Mask(self._policy, masks, self._types, self._find)

    def version(self, version: Version, before: Version | None = None) -> Version | None:
        """What they are told of `version`; None: nothing.

        The moment it was stored at moves as the dates in it. Of a deletion only what was told
        of the version `before` it can be told.
        """
        said = version if version.body is not None else before
        if said is None or said.body is None:
            return None
        resource = said.resource()
        given = self.resource(resource)
        if given is None:
            return None
        with _told():
            days = days_of(resource, self._policy, self._masks)
        return Version(
            ResourceKey(given["resourceType"], given["id"]),
            version.version_id,
            version.last_updated + timedelta(days),
            version.interaction,
            None if version.body is None else resource_json.format(given),
            version.sequence,
        )

    def resource(self, resource: Resource) -> Resource | None:
        """What they get of a stored `resource`; None: nothing."""
        with _told():
            return deidentify(resource, self._policy, self._masks, self._types)

    def key(self, key: ResourceKey) -> ResourceKey:
        """What they know `key` by."""
        with _told():
            return ResourceKey(key.resource_type, self._masks.pseudonym(key))

    def patient(self, pseudonym: str) -> ResourceKey | None:
        """Whom they mean by a pseudonym."""
        with _told():
            return self._find(pseudonym)

    def digest(self, text: str) -> str:
        """What `text` cannot be read from without the key, the same each time."""
        with _told():
            return self._masks.digest(text)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, ValueError) as error:
        raise KeysAwayError(f"{error}: nothing is given away without them") from error
