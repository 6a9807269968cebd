"""MongoStore: versions of resources in a MongoDB replica set."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar, cast

from pymongo.errors import DuplicateKeyError, PyMongoError

from fhir_server.core import archive
from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Query
from fhir_server.core.security.audit_chain import NO_KEYS, ChainKeys
from fhir_server.core.version import Version
from fhir_server.errors import StoreUnavailable
from fhir_server.store.checking import Checked, Report
from fhir_server.store.mongo import definitions, documents, reads, restore
from fhir_server.store.mongo.check import Check, check, check_bodies
from fhir_server.store.mongo.committer import Committer, GroupLimits
from fhir_server.store.mongo.definitions import Definitions
from fhir_server.store.mongo.explain import explain
from fhir_server.store.mongo.failures import translated
from fhir_server.store.mongo.outbox import MongoOutbox
from fhir_server.store.mongo.purge import purge
from fhir_server.store.mongo.reader import Reader
from fhir_server.store.mongo.reindex import reindex
from fhir_server.store.mongo.steps import DURABLE, Steps
from fhir_server.store.mongo.trail import MongoTrail
from fhir_server.store.mongo.transactor import Transactor
from fhir_server.store.protocol import (
    CommittedGroup,
    Decision,
    Extend,
    Extent,
    FirstPage,
    HistoryQuery,
    Page,
)
from fhir_server.store.trail import Trail

T = TypeVar("T")


class MongoStore:
    """Reads by the asynchronous client on the caller's loop, writes by one thread."""

    def __init__(
        self,
        connection: documents.Connection,
        indexer: Callable[[Resource | Filled], IndexEntries],
        parameters: SearchParameters,
        now: Callable[[], datetime],
        limits: GroupLimits,
        extend: Extend | None = None,
        trail_keys: ChainKeys = NO_KEYS,
    ) -> None:
        self._connection = connection
        self._transactor = Transactor(connection)
        self._definitions = Definitions(SearchDefinitions(indexer, parameters), extend)
        self._told = -1
        self._now = now
        self._committer = Committer(
            connection, self._transactor, self._definitions, now, limits, trail_keys
        )
        self.trail: Trail = MongoTrail(self._run, connection, self._transactor, now, trail_keys)
        self.outbox = MongoOutbox(
            connection, self._transactor, now, self._committer.commit_blocking
        )
        self._reads: Reader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    async def commit(self, decide: Decision[T]) -> T:
        return cast(T, await self._committer.commit(decide))

    async def read(self, key: ResourceKey) -> Version | None:
        with translated():
            return await self._reader().read(key)

    async def read_many(self, keys: Sequence[ResourceKey]) -> tuple[Version, ...]:
        return await self._run(reads.read_many(keys))

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None:
        with translated():
            return await self._reader().vread(key, version_id)

    async def history(self, query: HistoryQuery) -> Page:
        return await self._run(reads.history(query), may_be_costly=True)

    async def search(self, query: Query) -> Page:
        with translated(may_be_costly=True):
            return await self._reader().search(query)

    async def first_page(self, query: Query) -> FirstPage | None:
        with translated(may_be_costly=True):
            return await self._reader().first_page(query)

    async def explain(self, query: Query) -> tuple[str, ...]:
        def work() -> tuple[str, ...]:
            with translated(may_be_costly=True):
                return explain(self._connection.database, self._connection.indexes, query)

        return await asyncio.to_thread(work)

    async def changes(self, after: int, limit: int) -> tuple[Version, ...]:
        return await self._run(reads.feed(after, limit))

    async def keep(self, name: str, sealed: str) -> None:
        with translated(), suppress(DuplicateKeyError):
            # Of two that keep the same at once one may find the other's, which says the same.
            kept = self._reader().database["kept"].with_options(write_concern=DURABLE)
            change = {"$set": {"t": sealed}, "$max": {"at": self._now()}}
            await kept.update_one({"_id": name}, change, upsert=True)

    async def kept(self, name: str) -> str | None:
        return await self._run(reads.kept(name))

    def observe(self, observer: Callable[[CommittedGroup], None]) -> None:
        self._committer.observe(observer)

    async def is_ready(self) -> bool:
        try:
            with translated():
                # A write, acknowledged like a commit's: a full disk and a set without a
                # majority answer everything else.
                state = self._reader().database["state"].with_options(write_concern=DURABLE)
                ready = {"$currentDate": {"at": True}}
                await asyncio.wait_for(state.update_one({"_id": "ready"}, ready, upsert=True), 5)
        except (StoreUnavailable, TimeoutError, PyMongoError):
            return False
        return True

    async def purge(self, older_than: datetime) -> int:
        """Drop the index entries of versions superseded before then; how many versions.

        Searches as of a moment before it are gone afterwards; history is not touched.
        """
        return await self._run_blocking(lambda: purge(self._connection, older_than))

    @property
    def definitions(self) -> SearchDefinitions:
        return self._definitions.live

    async def refresh(self) -> bool:
        found = await self._run(definitions.read_steps())
        self._definitions.learn(found)
        is_new = found.number != self._told
        self._told = found.number
        return is_new

    async def reindex(
        self,
        report: Callable[[int], None] = lambda _: None,
        live: Sequence[Resource] | None = None,
    ) -> None:
        """Compute all index entries anew, beside the work; goes on where it was interrupted.

        `report` is told, on another thread, how far in the commit order it is.
        """
        database = self._connection.database
        await self._run_blocking(
            lambda: reindex(database, self._transactor, self._definitions, report, live)
        )

    async def extent(self) -> Extent:
        return await self._run(restore.extent())

    async def restore(self, versions: Sequence[Version], delivered: int) -> None:
        restored = [archive.parse_body(version) for version in versions]
        if restored:
            await self._run_blocking(
                lambda: restore.restore(
                    self._connection, self._transactor, self._definitions, restored, delivered
                )
            )

    def check_bodies(self, first: int, last: int, report: Report = lambda _: None) -> Checked:
        """Whether bodies and index entries agree, of these sequences; blocks."""
        with translated():
            database = self._connection.database
            self._definitions.learn(definitions.read(database))
            return check_bodies(database, self._definitions.rows, first, last, report)

    def check(
        self, report: Report = lambda _: None, bodies: Sequence[Checked] | None = None
    ) -> Check:
        """Whether versions, index entries and outbox agree; blocks, and reads everything."""
        with translated():
            database = self._connection.database
            self._definitions.learn(definitions.read(database))
            rows = self._definitions.rows
            return check(database, self._connection.indexes, rows, report, bodies)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.to_thread(self._committer.close)
        await asyncio.to_thread(self._transactor.close)
        if self._reads is not None:
            await self._reads.close()
        self._connection.close()

    async def _run_blocking(self, work: Callable[[], T]) -> T:
        def translating() -> T:
            with translated():
                return work()

        return await asyncio.to_thread(translating)

    async def _run(self, steps: Steps[T], *, may_be_costly: bool = False) -> T:
        with translated(may_be_costly=may_be_costly):
            return await self._reader().run(steps)

    def _reader(self) -> Reader:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        if self._reads is None or self._loop is not loop:
            # A client belongs to the loop that first used it.
            self._reads, self._loop = Reader(self._connection), loop
        return self._reads


def open_mongo(
    url: str,
    indexer: Callable[[Resource | Filled], IndexEntries],
    parameters: SearchParameters,
    now: Callable[[], datetime],
    *,
    limits: GroupLimits = GroupLimits(),  # noqa: B008 - immutable
    extend: Extend | None = None,
    trail_keys: ChainKeys = NO_KEYS,
) -> MongoStore:
    """The store at `url`: mongodb://host/name?replicaSet=….

    Raises:
        StoreUnavailable: it is not there, or is no replica set.
        Unsupported: it belongs to a newer release.
        ValueError: `url` is not that of a database.
    """
    return MongoStore(documents.connect(url), indexer, parameters, now, limits, extend, trail_keys)
