"""Reader: answers the reads of one event loop; what is asked at once, with one command."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar, cast

from pymongo import ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.store.mongo import blocking, first_page, reads
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.first_page import PlannedPage, Plans
from fhir_server.store.mongo.search import search
from fhir_server.store.mongo.steps import Document, Find, Step, Steps
from fhir_server.store.mongo.together import Together
from fhir_server.store.protocol import FirstPage, Page

T = TypeVar("T")

# While some are under way the next ones gather: enough for the database not to wait for us.
_AT_ONCE = 2
_MOST_RESOURCES = 500
_MOST_PAGES = 32


class Reader:
    """With a client of its own, which belongs to the running loop."""

    def __init__(self, connection: Connection) -> None:
        self._indexes = connection.indexes
        self._client = connection.open_async()
        self.database: AsyncDatabase[Document] = self._client.get_database(
            connection.database.name,
            # Whatever the URL says: elsewhere one's own write may not have arrived yet.
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
        )
        self._current: Together[ResourceKey, Version | None] = Together(
            self._answer_current, most=_MOST_RESOURCES, at_once=_AT_ONCE
        )
        self._versions: Together[tuple[ResourceKey, int], Version | None] = Together(
            self._answer_versions, most=_MOST_RESOURCES, at_once=_AT_ONCE
        )
        self._pages: Together[PlannedPage, Page | None] = Together(
            partial(self._answer_pages, first_page.find), most=_MOST_PAGES, at_once=_AT_ONCE
        )
        self._shown: Together[PlannedPage, FirstPage | None] = Together(
            partial(self._answer_pages, first_page.show), most=_MOST_PAGES, at_once=_AT_ONCE
        )
        self._commits: Together[None, list[Document]] = Together(
            self._answer_commits, most=1, at_once=_AT_ONCE
        )
        # First pages rely on every version saying its owner, and were never tried through a router.
        self._is_sharded = connection.is_sharded
        self._is_owned = False
        self._plans = Plans()

    async def read(self, key: ResourceKey) -> Version | None:
        return await self._current.ask(key)

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None:
        return await self._versions.ask((key, version_id))

    async def search(self, query: Query) -> Page:
        planned = self._plan(query)
        page = None
        if planned is not None and planned.is_unusual:
            planned.is_unusual = False
        elif planned is not None:
            page = await self._pages.ask(planned)
        return await self.run(search(query)) if page is None else page

    async def first_page(self, query: Query) -> FirstPage | None:
        planned = self._plan(query)
        if planned is None:
            return None
        page = await self._shown.ask(planned)
        # Whoever asks goes on to search for it: not by the same command once more.
        planned.is_unusual = page is None
        return page

    def _plan(self, query: Query) -> PlannedPage | None:
        if not self._is_owned or self._is_sharded:
            return None
        planned = self._plans.plan(query)
        if planned is None or not self._indexes.hint("versions", planned.index_name):
            return None
        return planned

    async def run(self, steps: Steps[T]) -> T:
        """The result of a read.

        Raises:
            PyMongoError: as the driver raises it.
        """
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._answer(step))
        except StopIteration as finished:
            return cast(T, finished.value)

    async def close(self) -> None:
        for asked in (self._current, self._versions, self._pages, self._shown, self._commits):
            await asked.finish()
        await self._client.close()

    async def _answer(self, step: Step) -> list[Document]:
        if step is reads.COMMITS:
            return await self._commits.ask(None)
        return await self._ask(step)

    async def _ask(self, step: Step) -> list[Document]:
        collection = self.database[step.collection]
        if isinstance(step, Find):
            return await collection.find(**blocking.find_arguments(step, self._indexes)).to_list()
        if step.is_of_one_moment:
            collection = collection.with_options(read_concern=blocking.ONE_MOMENT)
        arguments = blocking.aggregate_arguments(step, self._indexes)
        cursor = await collection.aggregate(list(step.pipeline), **arguments)
        return await cursor.to_list()

    async def _answer_current(self, wanted: Sequence[ResourceKey]) -> list[Version | None]:
        if len(wanted) == 1:
            return [await self.run(reads.read(wanted[0]))]
        found = await self.run(reads.current(wanted))
        return [found.get(key) for key in wanted]

    async def _answer_versions(
        self, wanted: Sequence[tuple[ResourceKey, int]]
    ) -> list[Version | None]:
        found = await self.run(reads.versions(wanted))
        return [found.get(asked) for asked in wanted]

    async def _answer_commits(self, wanted: Sequence[None]) -> list[list[Document]]:
        found = await self._ask(reads.COMMITS)
        # Once all versions say their owner they always will.
        self._is_owned = self._is_owned or bool(found[0].get("owned"))
        return [found for _ in wanted]

    async def _answer_pages(
        self, find: Callable[[Sequence[PlannedPage]], Steps[list[T]]], pages: Sequence[PlannedPage]
    ) -> Sequence[T | None]:
        try:
            return await self.run(find(pages))
        except ConnectionFailure:
            raise
        except PyMongoError:
            # One of them asks too much, or an index came or went: each alone shows which.
            return [None] * len(pages)
