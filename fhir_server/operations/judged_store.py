"""A store whose commits are judged: no Observation without the alerts that it calls for.

Whatever way an Observation comes in (a device's reading, a FHIR client's POST, a
transaction, a correction), it is put by a decision; the judgement is a part of that very
decision, so after a crash both are there or neither is (ADR 0020).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.operations.judge import Change, Judge
from fhir_server.store.protocol import (
    CommittedGroup,
    Decision,
    HistoryQuery,
    Page,
    Store,
    Transaction,
)

T = TypeVar("T")

_LOOKED_AT = frozenset({"Observation", "DetectedIssue"})


class JudgedStore:
    """`Store`, with a judge that looks at what each decision has put."""

    def __init__(self, store: Store, judge: Judge) -> None:
        self._store = store
        self._judge = judge

    async def commit(self, decide: Decision[T]) -> T:
        """As `Store.commit`."""

        def decide_and_judge(tx: Transaction) -> tuple[T, int]:
            watched = _Watched(tx)
            answer = decide(watched)
            return answer, self._judge.judge(tx, watched.judged) if watched.judged else 0

        answer, sequence = await self._store.commit(decide_and_judge)
        if sequence:
            self._judge.confirm(sequence)
        return answer

    async def read(self, key: ResourceKey) -> Version | None:
        return await self._store.read(key)

    async def read_many(self, keys: Sequence[ResourceKey]) -> tuple[Version, ...]:
        return await self._store.read_many(keys)

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None:
        return await self._store.vread(key, version_id)

    async def history(self, query: HistoryQuery) -> Page:
        return await self._store.history(query)

    async def search(self, query: Query) -> Page:
        return await self._store.search(query)

    async def explain(self, query: Query) -> tuple[str, ...]:
        return await self._store.explain(query)

    async def changes(self, after: int, limit: int) -> tuple[Version, ...]:
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


class _Watched:
    """A transaction that remembers what has been put of the types that are looked at."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.judged: list[Change] = []

    @property
    def now(self) -> datetime:
        return self._tx.now

    def read(self, key: ResourceKey) -> Version | None:
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
        if version.key.resource_type in _LOOKED_AT:
            before = self._tx.read(version.key) if version.version_id > 1 else None
            self.judged.append(Change(version.key, before, resource))
        self._tx.put(version, resource)
