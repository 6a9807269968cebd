"""Version: one state of one resource; a deletion has no body.

https://hl7.org/fhir/R4/http.html#versioning
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource

Interaction = Literal["create", "update", "delete", "update-create"]
"""What made a version; "update-create" is an update that made the resource, or revived it."""


class Version(NamedTuple):
    """One stored state.

    `body` is the canonical JSON text with `id`, `meta.versionId` and
    `meta.lastUpdated` in it, the same bytes for every reader; None is a deletion.
    `version_id` counts from 1. `last_updated` is UTC, whole milliseconds.
    `sequence` is the place in the store's commit order, counting from 1 without a
    gap; 0 before the version is committed.
    """

    key: ResourceKey
    version_id: int
    last_updated: datetime
    interaction: Interaction
    body: bytes | None
    sequence: int = 0

    @property
    def is_deletion(self) -> bool:
        return self.body is None

    @property
    def is_creation(self) -> bool:
        """Whether the resource was not there before."""
        return self.interaction in ("create", "update-create")

    def resource(self) -> Resource:
        """The body, parsed anew: the caller owns it."""
        if self.body is None:
            raise ValueError(f"{self.key} version {self.version_id} is a deletion")
        return resource_json.parse_resource(self.body)


# All versions of a commit have the same.
@lru_cache(maxsize=1_024)
def format_instant(when: datetime) -> str:
    """`when` in UTC with milliseconds, as `meta.lastUpdated` has it."""
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return when.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def next_version(
    current: Version | None, key: ResourceKey, resource: Resource, now: datetime
) -> tuple[Version, Resource]:
    """The version after `current` (the first, if None) and the resource as it is stored.

    `id`, `meta.versionId` and `meta.lastUpdated` are the server's; all else in
    `resource` is kept. The given dict is not changed.
    """
    version_id = 1 if current is None else current.version_id + 1
    interaction: Interaction = "create" if current is None or current.is_deletion else "update"
    stored = as_stored(key, version_id, format_instant(now), resource)
    return Version(key, version_id, now, interaction, resource_json.format(stored)), stored


def as_stored(key: ResourceKey, version_id: int, last_updated: str, resource: Resource) -> Resource:
    """`resource` with what is the server's; the given dict is not changed."""
    own_meta = {"versionId": str(version_id), "lastUpdated": last_updated}
    stored: Resource = {"resourceType": "", "id": "", "meta": own_meta, **resource}
    stored["resourceType"], stored["id"] = key
    meta = resource.get("meta")
    stored["meta"] = {**own_meta, **meta, **own_meta} if meta else own_meta
    return stored


def ids_of(bodies: Sequence[bytes], resource_type: str) -> list[bytes]:
    """The ids of the resources of one type that `bodies` are the stored texts of."""
    begin = b'{"resourceType":"%b","id":"' % resource_type.encode()
    start = len(begin)
    return [
        # As `as_stored` wrote it; nothing in an id is escaped.
        body[start : body.index(b'"', start)]
        if body.startswith(begin)
        else str(resource_json.parse_resource(body)["id"]).encode()
        for body in bodies
    ]


def deletion(current: Version, now: datetime) -> Version:
    """The version that says `current` was deleted."""
    return Version(current.key, current.version_id + 1, now, "delete", None)


def is_same_content(current: Version, resource: Resource) -> bool:
    """Whether storing `resource` would change nothing but what the server itself sets."""
    if current.body is None:
        return False
    return _content(current.resource()) == _content(resource)


_SERVERS_META = frozenset({"versionId", "lastUpdated"})


def _content(resource: Resource) -> bytes:
    meta = {k: v for k, v in (resource.get("meta") or {}).items() if k not in _SERVERS_META}
    rest = {k: v for k, v in resource.items() if k not in ("meta", "id")}
    return resource_json.format_sorted({**rest, "meta": meta} if meta else rest)
