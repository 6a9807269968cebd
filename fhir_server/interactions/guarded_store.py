"""GuardedStore: a store as one principal may see it.

Interactions and operations ask it as they ask any store, and so cannot forget to ask who is
asking. What is out of reach is not there: it is not found, not counted, not sorted by, not
reached through others, and a look at it takes the same steps as a look at nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import UNRESTRICTED, Cursor, Query
from fhir_server.core.security.reach import Act, Reach
from fhir_server.core.version import Version
from fhir_server.errors import Forbidden
from fhir_server.interactions import access
from fhir_server.interactions.guarded_transaction import GuardedTransaction, WriteRules
from fhir_server.interactions.visibility import Visibility, restricted
from fhir_server.store.protocol import (
    CommittedGroup,
    Decision,
    FirstPage,
    HistoryQuery,
    Page,
    Store,
    Transaction,
)
from fhir_server.store.trail import Trail

T = TypeVar("T")

_LOOKED_AT_ONCE = 100
# Versions that one page of a history may pass over; beyond, the page is shorter than asked.
_MOST_PASSED = 10_000


class GuardedStore:
    """`Store`, within the reach of one principal; made for one request."""

    def __init__(
        self,
        store: Store,
        reach: Reach,
        visibility: Visibility,
        rules: WriteRules,
        make_id: Callable[[], str],
    ) -> None:
        self._make_id = make_id
        self._issued: set[str] = set()
        self._store = store
        self._reach = reach
        self._visibility = visibility
        self._rules = rules

    @property
    def trail(self) -> Trail:
        """For whoever records; what is read of it goes through `search` and `read`."""
        return self._store.trail

    def new_id(self) -> str:
        """An id of the server's making, which a new resource of this request may have."""
        made = self._make_id()
        self._issued.add(made)
        return made

    async def commit(self, decide: Decision[T]) -> T:
        """As `Store.commit`; what was put must be within reach before and behind.

        Raises:
            Forbidden: it is not.
        """

        def decide_guarded(tx: Transaction) -> T:
            guarded = GuardedTransaction(tx, self._reach, self._rules, self._issued)
            answer = decide(guarded)
            guarded.check_written()
            return answer

        return await self._store.commit(decide_guarded)

    async def read(self, key: ResourceKey) -> Version | None:
        if self._reach.is_open("r", key.resource_type):
            return await self._store.read(key)
        if key.resource_type not in self._rules.parameters.resource_types:
            return None
        # By a search: what is there and hidden takes as long as what is not.
        query = restricted(
            self._rules.parameters, self._reach, "r", key.resource_type, (key.resource_id,)
        )
        page = await self._store.search(query)
        if page.versions:
            return page.versions[0]
        return await asyncio.to_thread(self._visibility.deleted, self._reach, "r", key)

    async def read_many(self, keys: Sequence[ResourceKey]) -> tuple[Version, ...]:
        with access.unnoted():
            found = await self._store.read_many(keys)
        return _noted(await self._visible("r", found))

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None:
        with access.unnoted():
            # First whether the resource is there at all, as for one that never was.
            if await self.read(key) is None:
                return None
            found = await self._store.vread(key, version_id)
        shown = () if found is None else await self._visible("r", (found,))
        request = access.current()
        if request is not None and shown:
            request.read(shown[0])
        return shown[0] if shown else None

    async def history(self, query: HistoryQuery) -> Page:
        """As `Store.history`, without what is out of reach; only a whole history is counted."""
        act: Act = "s" if query.resource_id is None else "r"
        if query.resource_type is not None and self._reach.is_open(act, query.resource_type):
            return await self._store.history(query)
        is_as_told = query.is_upward == query.is_oldest_first
        step = query._replace(count=max(query.count, _LOOKED_AT_ONCE))
        found: list[Version] = []
        passed = 0
        while True:
            with access.unnoted():
                page = await self._store.history(step)
            versions = page.versions if is_as_told else page.versions[::-1]
            found += await self._visible(act, versions)
            passed += len(versions)
            more = page.next if is_as_told else page.previous
            if more is None or len(found) > query.count or passed >= _MOST_PASSED:
                break
            step = step._replace(
                as_of=page.as_of,
                after=more.sequence if query.is_upward else None,
                before=None if query.is_upward else more.sequence,
            )
        end = more
        if len(found) > query.count:
            found = found[: query.count]
            end = Cursor((), found[-1].sequence)
        _noted(tuple(found))
        return _page(query, found, end, page.as_of, is_as_told=is_as_told)

    async def search(self, query: Query) -> Page:
        return await self._store.search(
            query._replace(restriction=self._reach.restriction("s", query))
        )

    async def count(self, query: Query) -> Page:
        """As `search`; a manufacturer is told the number of what it does not see.

        Only for what asks in a way that nobody can be made out by.
        """
        if self._reach.is_makers:
            return await self._store.search(query._replace(count=0, restriction=UNRESTRICTED))
        return await self.search(query)

    async def first_page(self, query: Query) -> FirstPage | None:
        return await self._store.first_page(
            query._replace(restriction=self._reach.restriction("s", query))
        )

    async def explain(self, query: Query) -> tuple[str, ...]:
        """Raises `Forbidden`: what a store looks at tells of what is hidden."""
        raise Forbidden("how a search runs is told to those who see everything")

    async def changes(self, after: int, limit: int) -> tuple[Version, ...]:
        with access.unnoted():
            found = await self._store.changes(after, limit)
        return _noted(await self._visible("s", found))

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

    async def _visible(self, act: Act, versions: Sequence[Version]) -> tuple[Version, ...]:
        if all(self._reach.is_open(act, version.key.resource_type) for version in versions):
            return tuple(versions)
        shown = await asyncio.to_thread(self._visibility.visible, self._reach, act, versions)
        request = access.current()
        if request is not None and len(shown) < len(versions):
            names = {(version.key, version.version_id) for version in shown}
            request.hid(v for v in versions if (v.key, v.version_id) not in names)
        return shown


def _noted(versions: tuple[Version, ...]) -> tuple[Version, ...]:
    """What is shown is on record; what was looked at and is hidden was not accessed."""
    request = access.current()
    if request is not None:
        request.saw(versions)
    return versions


def _page(
    query: HistoryQuery,
    found: Sequence[Version],
    end: Cursor | None,
    as_of: int,
    *,
    is_as_told: bool,
) -> Page:
    """A page of what is shown, given in the direction that `query` goes."""
    is_first = query.before is None and query.after is None
    total = len(found) if is_first and end is None else None
    start = Cursor((), found[0].sequence) if found and not is_first else None
    if is_as_told:
        return Page(tuple(found), as_of, end, total, start)
    return Page(tuple(found[::-1]), as_of, start, total, end)
