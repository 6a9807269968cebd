"""A store that shows some clients pseudonyms and what their policy leaves, and nothing else.

They find by codes and by the pseudonyms they know. Whatever else could be searched, sorted
or read by would tell, answer by answer, what the policy leaves out (ADR 0031).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from fhir_server.core import resource_json
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import (
    AllOf,
    AnyOf,
    Clause,
    Criterion,
    Not,
    Query,
    ReferenceValue,
    TokenValue,
    Value,
)
from fhir_server.core.security.deidentify import Masks, days_of, deidentify
from fhir_server.core.security.deidentify_policy import DeidentificationPolicy
from fhir_server.core.version import Version
from fhir_server.errors import Forbidden
from fhir_server.interactions import access
from fhir_server.store.protocol import (
    CommittedGroup,
    Decision,
    FirstPage,
    HistoryQuery,
    Page,
    Store,
)
from fhir_server.store.trail import Trail

T = TypeVar("T")

_PATIENT = "Patient"
_BY_CODE = frozenset({"code", "category", "status", "clinical-status", "type", "class"})
_BY_PATIENT = frozenset({"patient", "subject"})


class Pseudonyms(Protocol):
    """Who is who at a recipient; its calls wait for a disk."""

    def masks(self, recipient: str, most_days: int) -> Masks: ...

    def patient(self, recipient: str, pseudonym: str) -> ResourceKey | None: ...


class DepersonalizedStore:
    """`Store`, with `policies` by the client that is asking; other clients see it as it is."""

    def __init__(
        self,
        store: Store,
        policies: Mapping[str, DeidentificationPolicy],
        pseudonyms: Pseudonyms,
        types: ElementTypes,
    ) -> None:
        self._store = store
        self._policies = policies
        self._pseudonyms = pseudonyms
        self._types = types

    @property
    def trail(self) -> Trail:
        return self._store.trail

    async def commit(self, decide: Decision[T]) -> T:
        """As `Store.commit`.

        Raises:
            Forbidden: who is shown pseudonyms changes nothing.
        """
        self._refuse()
        return await self._store.commit(decide)

    async def read(self, key: ResourceKey) -> Version | None:
        policy = self._policy()
        if policy is None:
            return await self._store.read(key)
        real = await asyncio.to_thread(self._real, policy, key)
        version = None if real is None else await self._store.read(real)
        if version is None or version.body is None:
            return None
        shown = await asyncio.to_thread(self._each_shown, policy, (version,))
        return shown[0]

    async def read_many(self, keys: Sequence[ResourceKey]) -> tuple[Version, ...]:
        self._refuse()
        return await self._store.read_many(keys)

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None:
        self._refuse()
        return await self._store.vread(key, version_id)

    async def history(self, query: HistoryQuery) -> Page:
        self._refuse()
        return await self._store.history(query)

    async def search(self, query: Query) -> Page:
        policy = self._policy()
        if policy is None:
            return await self._store.search(query)
        if query.resource_type not in policy.types:
            raise Forbidden("the recipient's policy has nothing of this type")
        if query.sort:
            raise Forbidden("de-identified resources are not sorted")
        criteria = await asyncio.to_thread(self._translated, policy, query)
        page = await self._store.search(query._replace(criteria=criteria))
        shown = await asyncio.to_thread(self._each_shown, policy, page.versions)
        cursors = (
            cursor for cursor, its in zip(page.cursors, shown, strict=False) if its is not None
        )
        versions = tuple(version for version in shown if version is not None)
        return page._replace(versions=versions, cursors=tuple(cursors))

    async def first_page(self, query: Query) -> FirstPage | None:
        """None for who is shown pseudonyms: bodies as they are stored are none of theirs."""
        return None if self._policy() else await self._store.first_page(query)

    async def explain(self, query: Query) -> tuple[str, ...]:
        self._refuse()
        return await self._store.explain(query)

    async def changes(self, after: int, limit: int) -> tuple[Version, ...]:
        self._refuse()
        return await self._store.changes(after, limit)

    async def keep(self, name: str, sealed: str) -> None:
        await self._store.keep(name, sealed)

    async def kept(self, name: str) -> str | None:
        return await self._store.kept(name)

    def observe(self, observer: Callable[[CommittedGroup], None]) -> None:
        self._store.observe(observer)

    async def is_ready(self) -> bool:
        return await self._store.is_ready()

    async def close(self) -> None:
        await self._store.close()

    def _policy(self) -> DeidentificationPolicy | None:
        return self._policies.get(access.asking().client_id)

    def _refuse(self) -> None:
        if self._policy() is not None:
            raise Forbidden("de-identified resources are searched, and nothing else")

    def _each_shown(
        self, policy: DeidentificationPolicy, versions: Sequence[Version]
    ) -> list[Version | None]:
        masks = self._pseudonyms.masks(policy.recipient, policy.shift_days)
        return [deidentified(version, policy, masks, self._types) for version in versions]

    def _real(self, policy: DeidentificationPolicy, key: ResourceKey) -> ResourceKey | None:
        """Whom a pseudonym means; only those of patients are asked back."""
        if key.resource_type != _PATIENT:
            return None
        return self._pseudonyms.patient(policy.recipient, key.resource_id)

    def _translated(self, policy: DeidentificationPolicy, query: Query) -> tuple[Criterion, ...]:
        def translate(criterion: Criterion) -> Criterion:
            match criterion:
                case AnyOf(criteria):
                    return AnyOf(tuple(map(translate, criteria)))
                case AllOf(criteria):
                    return AllOf(tuple(map(translate, criteria)))
                case Not(inner):
                    return Not(translate(inner))
                case Clause(parameter, modifier, values) if modifier in ("", "not"):
                    if parameter.code in _BY_CODE:
                        return criterion
                    is_own = parameter.code == "_id" and query.resource_type == _PATIENT
                    if parameter.code in _BY_PATIENT or is_own:
                        return criterion._replace(values=tuple(map(meant, values)))
            raise Forbidden("de-identified resources are found by codes and pseudonyms")

        def meant(value: Value) -> Value:
            match value:
                case ReferenceValue(kind, str(name)) if kind in (None, _PATIENT):
                    real = self._real(policy, ResourceKey(_PATIENT, name))
                    return ReferenceValue(_PATIENT, real.resource_id if real else "")
                case TokenValue(None | "", str(name)):
                    real = self._real(policy, ResourceKey(_PATIENT, name))
                    return TokenValue(None, real.resource_id if real else "")
            raise Forbidden("a patient is named by a pseudonym")

        return tuple(map(translate, query.criteria))


def deidentified(
    version: Version, policy: DeidentificationPolicy, masks: Masks, types: ElementTypes
) -> Version | None:
    """What `version` is to a recipient: one state, without a history; None: nothing."""
    if version.body is None:
        return None
    resource = version.resource()
    given = deidentify(resource, policy, masks, types)
    if given is None:
        return None
    # When it was stored tells when it was measured: it moves as the dates within.
    moved = version.last_updated + timedelta(days_of(resource, policy, masks))
    key = ResourceKey(given["resourceType"], given["id"])
    body = resource_json.format(given)
    return Version(key, 1, moved, "create", body, version.sequence)
