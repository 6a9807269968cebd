"""The SQLite store: one file, one writing thread, readers on the event loop.

Several processes may have the same file open: whatever a commit depends on is read
inside its transaction.
"""

import asyncio
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from fhir_server.core import archive
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Query
from fhir_server.core.security.audit_chain import NO_KEYS, ChainKeys
from fhir_server.core.version import Version
from fhir_server.errors import FhirError
from fhir_server.store.checking import Checked, Report
from fhir_server.store.protocol import (
    CommittedGroup,
    Decision,
    Extend,
    Extent,
    FirstPage,
    HistoryQuery,
    Page,
)
from fhir_server.store.sqlite import erase, kept, reindex, restore, schema, versions
from fhir_server.store.sqlite.check import Check, check, check_bodies
from fhir_server.store.sqlite.checkpoint import Checkpointer
from fhir_server.store.sqlite.committer import Committer, GroupLimits, decision, statement, upkeep
from fhir_server.store.sqlite.connection import open_connection, translated
from fhir_server.store.sqlite.definitions import Definitions
from fhir_server.store.sqlite.explain import explain
from fhir_server.store.sqlite.names import Cache, Names
from fhir_server.store.sqlite.outbox import SqliteOutbox
from fhir_server.store.sqlite.reader import Readers, ReadLimits, limited
from fhir_server.store.sqlite.search import Searcher
from fhir_server.store.sqlite.trail import SqliteTrail
from fhir_server.store.sqlite.transaction import Indexer, Shared
from fhir_server.store.trail import Trail

T = TypeVar("T")

# Commits that one step of upkeep looks at: others wait for it.
_BATCH = 500


class SqliteStore:
    """Versions of resources in one SQLite file.

    `path` None keeps everything in a file that is gone when the store closes. Up to
    `sort_limit` matches are sorted for a page; of more, it is read in order off an index.
    """

    def __init__(
        self,
        path: Path | None,
        indexer: Indexer,
        parameters: SearchParameters,
        now: Callable[[], datetime],
        *,
        extend: Extend | None = None,
        busy_seconds: float = 5.0,
        group_limits: GroupLimits = GroupLimits(),  # noqa: B008 - immutable
        read_limits: ReadLimits = ReadLimits(),  # noqa: B008 - immutable
        sort_limit: int = 500,
        trail_keys: ChainKeys = NO_KEYS,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fhir-server-")) if path is None else None
        self.path = path or Path(self._folder or "", "fhir.db")
        connect = partial(
            open_connection,
            self.path,
            busy_seconds=busy_seconds,
            is_volatile=path is None,
        )
        self._upgrade(connect)
        self.now = now
        self._definitions = Definitions(SearchDefinitions(indexer, parameters), extend)
        self._generation = 0
        names = Cache()
        self._searcher = Searcher(names, sort_limit)
        self._connect_reader = partial(connect, is_reader=True)
        self._read_limits = read_limits
        self.readers = Readers(self._connect_reader, read_limits)
        self._checkpointer = Checkpointer(partial(connect, is_reader=False))
        self.committer = Committer(
            partial(connect, is_reader=False),
            Shared(
                self._definitions,
                partial(self._search_in_decision, read_limits.decision),
                names,
                trail_keys,
            ),
            now,
            group_limits,
            self._checkpointer.committed,
        )
        self.trail: Trail = SqliteTrail(self.readers, self.committer, trail_keys)
        self.outbox = SqliteOutbox(self.readers, self.committer, now, self._searcher.search)

    async def commit(self, decide: Decision[T]) -> T:
        result: T = await self.committer.commit(decision(decide))
        return result

    async def read(self, key: ResourceKey) -> Version | None:
        return self.readers.point(lambda connection: versions.read(connection, key))

    async def read_many(self, keys: Sequence[ResourceKey]) -> tuple[Version, ...]:
        found = await self.readers.run(lambda connection: versions.read_many(connection, keys))
        ordered = (found.get(key) for key in dict.fromkeys(keys))
        return tuple(v for v in ordered if v is not None and not v.is_deletion)

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None:
        return self.readers.point(lambda connection: versions.vread(connection, key, version_id))

    async def history(self, query: HistoryQuery) -> Page:
        return await self.readers.run(lambda connection: versions.history(connection, query))

    async def search(self, query: Query) -> Page:
        return await self.readers.run(
            lambda connection: self._searcher.search(connection, query),
            lambda connection: self._searcher.search_at_once(connection, query),
        )

    async def first_page(self, query: Query) -> FirstPage | None:
        return self.readers.at_once(
            lambda connection: self._searcher.show_at_once(connection, query)
        )

    async def explain(self, query: Query) -> tuple[str, ...]:
        return await asyncio.to_thread(
            explain, self._connect_reader, self._searcher.search, query, self._read_limits.total
        )

    async def changes(self, after: int, limit: int) -> tuple[Version, ...]:
        return await self.readers.run(lambda connection: versions.changes(connection, after, limit))

    async def keep(self, name: str, sealed: str) -> None:
        now = versions.milliseconds(self.now())
        await self.committer.commit(
            statement(lambda connection: kept.keep(connection, name, sealed, now))
        )

    async def kept(self, name: str) -> str | None:
        return self.readers.point(lambda connection: kept.kept(connection, name))

    def observe(self, observer: Callable[[CommittedGroup], None]) -> None:
        self.committer.observe(observer)

    async def is_ready(self) -> bool:
        try:
            await self.committer.commit(statement(_touch))
        except FhirError:
            return False
        return True

    async def purge(self, older_than: datetime) -> int:
        """Forget how to search as of moments before `older_than`; how many versions it was.

        The versions stay. A page link from before then has expired.
        """
        cutoff, count, has_more = versions.milliseconds(older_than), 0, True
        await self.committer.commit(statement(lambda connection: kept.forget(connection, cutoff)))
        while has_more:
            gone, has_more = await self.committer.commit(
                upkeep(lambda group: erase.purge(group, group.indexer, cutoff, _BATCH))
            )
            count += gone
        return count

    @property
    def definitions(self) -> SearchDefinitions:
        """What the generation is searched by, as of the last look."""
        return self.readers.point(self._live)

    async def refresh(self) -> bool:
        """Whether another generation is current than when this was last asked."""
        generation = self.readers.point(lambda connection: versions.meta(connection, "generation"))
        is_new = generation != self._generation
        self._generation = generation
        return is_new

    async def reindex(
        self,
        report: Callable[[int], None] = lambda _: None,
        live: Sequence[Resource] | None = None,
    ) -> None:
        """Compute all index rows anew, beside the work; goes on where it was interrupted.

        `report` is told how far in the commit order it is.
        """
        await self.committer.commit(upkeep(lambda group: reindex.begin(group, live)))
        phase = reindex.Phase.FILLING
        while phase is not reindex.Phase.DONE:
            phase, position = await self.committer.commit(
                upkeep(lambda group: reindex.step(group, _BATCH))
            )
            report(position)

    async def extent(self) -> Extent:
        return self.readers.point(restore.extent)

    async def restore(self, versions: Sequence[Version], delivered: int) -> None:
        restored = [archive.parse_body(version) for version in versions]
        if restored:
            await self.committer.commit(
                upkeep(lambda group: restore.restore(group, group.indexer, restored, delivered))
            )

    def check_bodies(self, first: int, last: int, report: Report = lambda _: None) -> Checked:
        """Whether bodies and index rows agree, of these sequences; blocks."""
        return self.readers.bounded(
            lambda c: check_bodies(c, self._live(c).indexer, first, last, report),
            seconds=math.inf,
        )

    def check(
        self, report: Report = lambda _: None, bodies: Sequence[Checked] | None = None
    ) -> Check:
        """Whether versions, index rows and outbox agree; blocks, and reads everything."""
        return self.readers.bounded(
            lambda c: check(c, self._live(c).indexer, report, bodies), seconds=math.inf
        )

    async def close(self) -> None:
        """Blocks while the last group is written: nothing else is served any more."""
        self.committer.close()
        self._checkpointer.close()
        self.readers.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _live(self, connection: sqlite3.Connection) -> SearchDefinitions:
        return self._definitions.of(connection, versions.meta(connection, "generation"))

    def _search_in_decision(
        self, seconds: float, connection: sqlite3.Connection, query: Query, names: Names
    ) -> Page:
        return limited(connection, lambda c: self._searcher.search_within(c, query, names), seconds)

    def _upgrade(self, connect: Callable[..., sqlite3.Connection]) -> None:
        connection = connect(is_reader=False)
        try:
            with translated():
                schema.upgrade(connection)
        finally:
            connection.close()


def _touch(connection: sqlite3.Connection) -> None:
    """A write that changes nothing: a full disk or a lock that is held shows itself."""
    connection.execute("UPDATE meta SET value = value WHERE name = 'generation'")
