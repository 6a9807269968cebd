"""A store whose commits are judged: no Observation without the alerts that it calls for.

Whatever way an Observation comes in (a device's reading, a FHIR client's POST, a
transaction, a correction), it is put by a decision; the judgement is a part of that very
decision, so after a crash both are there or neither is (ADR 0020).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.operations.judge import Change
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


class Judging(Protocol):
    """What looks at the puts of a decision, each with the types that it wants to see."""

    looked_at: frozenset[str]

    def judge(self, tx: Transaction, changes: Sequence[Change]) -> int:
        """Put what follows, or raise what is wrong; the sequence to confirm, 0 if none."""
        ...

    def confirm(self, sequence: int) -> None:
        """A decision whose judgement was as of `sequence` is committed."""
        ...


class JudgedStore:
    """`Store`, with judges that look at what each decision has put.

    They see what the decision put and not what the judges before them did.
    """

    def __init__(self, store: Store, *judges: Judging) -> None:
        self._store = store
        self._judges = judges
        self._looked_at = frozenset().union(*(judge.looked_at for judge in judges))

    @property
    def trail(self) -> Trail:
        return self._store.trail

    async def commit(self, decide: Decision[T]) -> T:
        """As `Store.commit`."""

        def decide_and_judge(tx: Transaction) -> tuple[T, tuple[tuple[Judging, int], ...]]:
            watched = _Watched(tx, self._looked_at)
            answer = decide(watched)
            return answer, tuple(
                self._judge(tx, watched.changes_made)
            ) if watched.changes_made else ()

        answer, judged = await self._store.commit(decide_and_judge)
        for judge, sequence in judged:
            judge.confirm(sequence)
        return answer

    def _judge(self, tx: Transaction, changes: Sequence[Change]) -> Iterator[tuple[Judging, int]]:
        for judge in self._judges:
            seen = [change for change in changes if change.key.resource_type in judge.looked_at]
            if seen and (sequence := judge.judge(tx, seen)):
                yield judge, sequence

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

    async def first_page(self, query: Query) -> FirstPage | None:
        return await self._store.first_page(query)

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

    def __init__(self, tx: Transaction, looked_at: frozenset[str]) -> None:
        self._tx = tx
        self._looked_at = looked_at
        self.changes_made: list[Change] = []

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
        if version.key.resource_type in self._looked_at:
            before = self._tx.read(version.key) if version.version_id > 1 else None
            self.changes_made.append(Change(version.key, before, resource))
        self._tx.put(version, resource)

    def record(self, entries: Sequence[TrailEntry]) -> None:
        self._tx.record(entries)
