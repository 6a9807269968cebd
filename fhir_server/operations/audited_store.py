"""A store that tells the request it works for what was touched, and records every change.

All of the request path goes through `Context.store`, so this is the one place: whatever
way a version is read or put, the audit trail has it (ADR 0030). Work that is for no request
passes through unrecorded.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Query
from fhir_server.core.security import audit_event
from fhir_server.core.security.touched import patient_of_put, patient_of_version
from fhir_server.core.version import Version
from fhir_server.errors import Unsupported
from fhir_server.interactions import access
from fhir_server.operations.audit_search import AuditSearch, Index, find_event, is_asked_alone
from fhir_server.store.protocol import (
    CommittedGroup,
    Decision,
    FirstPage,
    HistoryQuery,
    Page,
    Store,
    Transaction,
)
from fhir_server.store.trail import Trail, TrailEntry

T = TypeVar("T")

_AUDIT_EVENT = "AuditEvent"
_READ_ONLY = "AuditEvents are the server's: they are read and searched"


class AuditedStore:
    """`Store`, with the accesses of requests recorded in its trail."""

    def __init__(
        self, store: Store, parameters: SearchParameters, find_index: Callable[[], Index]
    ) -> None:
        self._store = store
        self._events = AuditSearch(store, parameters, find_index)

    @property
    def trail(self) -> Trail:
        return self._store.trail

    async def commit(self, decide: Decision[T]) -> T:
        """As `Store.commit`.

        Raises:
            Unsupported: an AuditEvent would be written.
        """
        request = access.current()
        if request is None:
            return await self._store.commit(decide)

        def decide_and_record(tx: Transaction) -> tuple[T, Sequence[tuple[str, str]]]:
            watched = _Watched(tx)
            try:
                answer = decide(watched)
            finally:
                request.attempted(watched.touched)
            if watched.touched:
                tx.record((request.of_commit(watched.touched),))
            return answer, watched.touched

        answer, touched = await self._store.commit(decide_and_record)
        if touched:
            request.recorded(touched)
        return answer

    async def read(self, key: ResourceKey) -> Version | None:
        place = audit_event.parse_id(key.resource_id) if key[0] == _AUDIT_EVENT else None
        if place is None:
            version = await self._store.read(key)
        else:
            version = await find_event(self._store.trail, *place)
        return _noted_read(version)

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None:
        if key.resource_type == _AUDIT_EVENT and audit_event.parse_id(key.resource_id):
            return await self.read(key) if version_id == 1 else None
        return _noted_read(await self._store.vread(key, version_id))

    async def read_many(self, keys: Sequence[ResourceKey]) -> tuple[Version, ...]:
        return _noted(await self._store.read_many(keys))

    async def history(self, query: HistoryQuery) -> Page:
        page = await self._store.history(query)
        _noted(page.versions)
        return page

    async def search(self, query: Query) -> Page:
        if query.resource_type == _AUDIT_EVENT and is_asked_alone(query):
            page = await self._events.search(query)
        else:
            page = await self._store.search(query)
        _noted(page.versions)
        return page

    async def first_page(self, query: Query) -> FirstPage | None:
        found = await self._store.first_page(query)
        request = access.current()
        if request is not None and found is not None:
            request.saw_bodies(found.bodies)
        return found

    async def explain(self, query: Query) -> tuple[str, ...]:
        return await self._store.explain(query)

    async def changes(self, after: int, limit: int) -> tuple[Version, ...]:
        return _noted(await self._store.changes(after, limit))

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


def _noted(versions: tuple[Version, ...]) -> tuple[Version, ...]:
    request = access.current()
    if request is not None:
        request.saw(versions)
    return versions


def _noted_read(version: Version | None) -> Version | None:
    request = access.current()
    if request is not None and version is not None:
        request.read(version)
    return version


class _Watched:
    """A transaction that remembers what was put, and whose it is."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.touched: list[tuple[str, str]] = []

    @property
    def now(self) -> datetime:
        return self._tx.now

    def read(self, key: ResourceKey) -> Version | None:
        if key[0] == _AUDIT_EVENT and audit_event.parse_id(key[1]):
            # They are no resources of the store: a deletion would find nothing, and be a success.
            raise Unsupported(_READ_ONLY)
        return self._tx.read(key)

    def read_many(self, keys: Sequence[ResourceKey]) -> dict[ResourceKey, Version]:
        return self._tx.read_many(keys)

    def search(self, query: Query) -> Page:
        return self._tx.search(query)

    def find(
        self, resource_type: str, identifiers: Iterable[tuple[str | None, str]]
    ) -> dict[tuple[str | None, str], tuple[ResourceKey, ...]]:
        return self._tx.find(resource_type, identifiers)

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        return self._tx.changes(after, resource_types)

    def put(self, version: Version, resource: Resource | Filled | None) -> None:
        key, version_id = version[0], version[1]
        if key[0] == _AUDIT_EVENT:
            raise Unsupported(_READ_ONLY)
        what = f"{key[0]}/{key[1]}/_history/{version_id}"
        patient = "" if resource is None else patient_of_put(resource)
        if version_id > 1:
            # A deletion does not say whose it was, and a change may say another's.
            before = self._tx.read(key)
            whose = "" if before is None else patient_of_version(before)
            if whose and whose != patient:
                self.touched.append((whose, what))
                if not patient:
                    self._tx.put(version, resource)
                    return
        self.touched.append((patient, what))
        self._tx.put(version, resource)

    def record(self, entries: Sequence[TrailEntry]) -> None:
        self._tx.record(entries)
