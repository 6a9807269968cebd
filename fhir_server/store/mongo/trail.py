"""The audit trail in MongoDB: appended to in a group's transaction, read by anybody.

The group holds the counter of commits, so nobody else appends meanwhile.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bson.binary import Binary
from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.database import Database

from fhir_server.core.security import audit_sheet
from fhir_server.core.security.audit_chain import ChainedText, ChainKeys, ChainLink, chained
from fhir_server.errors import VersionConflict
from fhir_server.store.mongo import blocking
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.failures import translated
from fhir_server.store.mongo.rows import to_milliseconds
from fhir_server.store.mongo.steps import DURABLE, Document, Find, Steps
from fhir_server.store.mongo.transactor import Transactor, take_turn
from fhir_server.store.trail import TrailEnds, TrailEntry, TrailQuery

T = TypeVar("T")

_AT_ONCE = 2_000
_PATIENCE = 15.0
_COLLECTION = "trail"
_ENDS = "trail"


def append(
    database: Database[Document],
    session: ClientSession,
    entries: Sequence[TrailEntry],
    now: int,
    keys: ChainKeys,
) -> None:
    """Write `entries` behind the newest sheet; the caller's transaction holds the counter.

    Raises:
        StoreUnavailable: the chain goes on with a key that is not among `keys`.
    """
    ends = database["state"].find_one({"_id": _ENDS}, session=session) or {}
    newest = ChainLink(ends["sequence"], bytes(ends["digest"]))
    key = keys.of(ends.get("key", ""))
    # A clock that was put back: the order of times is the order of the chain.
    at = max(now, ends["at"])
    documents: list[Document] = []
    for text, patients, _ in audit_sheet.sheets(entries):
        record = chained(newest, at, text, key)
        newest = ChainLink(record.sequence, record.digest)
        document = {"_id": record.sequence, "a": at, "t": Binary(text), "d": Binary(record.digest)}
        if patients:
            document["p"] = list(patients)
        documents.append(document)
    database[_COLLECTION].insert_many(documents, session=session)
    change = {"sequence": newest.sequence, "digest": Binary(newest.digest), "at": at}
    database["state"].update_one({"_id": _ENDS}, {"$set": change}, session=session)


class Run(Protocol):
    """Answers the steps of a read on the caller's loop."""

    def __call__(self, steps: Steps[T]) -> Coroutine[Any, Any, T]: ...


class MongoTrail:
    """The trail of one database."""

    def __init__(
        self,
        run: Run,
        connection: Connection,
        transactor: Transactor,
        now: Callable[[], datetime],
        keys: ChainKeys,
    ) -> None:
        self._run = run
        self._connection = connection
        self._transactor = transactor
        self._now = now
        self.keys = keys

    async def find(self, sequence: int) -> ChainedText | None:
        return await self._run(_find(sequence))

    async def search(self, query: TrailQuery) -> tuple[ChainedText, ...]:
        return await self._run(_search(query))

    async def ends(self) -> TrailEnds:
        return await self._run(_ends())

    async def turn_key(self, key_id: str, entries: Sequence[TrailEntry]) -> None:
        def turn(session: ClientSession) -> None:
            database = self._connection.database
            commits = take_turn(database["state"], "commits", session)
            now = max(to_milliseconds(self._now()), commits["updated"])
            append(database, session, entries, now, self.keys)
            database["state"].update_one({"_id": _ENDS}, {"$set": {"key": key_id}}, session=session)
            append(database, session, entries, now, self.keys)

        def work() -> None:
            with translated():
                self._transactor.run(turn, _PATIENCE)

        await asyncio.to_thread(work)

    async def newest_before(self, when: datetime) -> ChainLink | None:
        return await self._run(_newest_before(to_milliseconds(when)))

    async def prune(self, up_to: ChainLink, entries: Sequence[TrailEntry]) -> None:
        def work() -> None:
            with translated():
                self._transactor.run(lambda s: self._tell(s, up_to, entries), _PATIENCE)
                self._erase(up_to.sequence)

        await asyncio.to_thread(work)

    def _tell(
        self, session: ClientSession, up_to: ChainLink, entries: Sequence[TrailEntry]
    ) -> None:
        database = self._connection.database
        commits = take_turn(database["state"], "commits", session)
        found = blocking.run(_find(up_to.sequence), database, self._connection.indexes, session)
        if found is None or found.digest != up_to.digest:
            raise VersionConflict("the sheet to prune up to is not there any more")
        append(
            database,
            session,
            entries,
            max(to_milliseconds(self._now()), commits["updated"]),
            self.keys,
        )
        change = {"pruned": up_to.sequence, "pruned_digest": Binary(up_to.digest)}
        database["state"].update_one({"_id": _ENDS}, {"$set": change}, session=session)

    def _erase(self, pruned: int) -> None:
        trail = self._connection.database[_COLLECTION].with_options(write_concern=DURABLE)
        while True:
            found = trail.find({"_id": {"$lte": pruned}}, {"_id": 1}).sort("_id", 1)
            ids = [document["_id"] for document in found.limit(_AT_ONCE)]
            if not ids:
                return
            trail.delete_many({"_id": {"$lte": ids[-1]}})


def _find(sequence: int) -> Steps[ChainedText | None]:
    ends = yield from _ends()
    if sequence <= ends.pruned.sequence:
        return None
    found = yield Find({"_id": sequence}, limit=1, collection=_COLLECTION)
    return _to_record(found[0]) if found else None


def _ends() -> Steps[TrailEnds]:
    found = yield Find({"_id": _ENDS}, limit=1, collection="state")
    ends = found[0]
    return TrailEnds(
        ChainLink(ends["pruned"], bytes(ends["pruned_digest"])),
        ChainLink(ends["sequence"], bytes(ends["digest"])),
        ends.get("key", ""),
    )


def _search(query: TrailQuery) -> Steps[tuple[ChainedText, ...]]:
    ends = yield from _ends()
    way, beyond = (1, "$gt") if query.is_oldest_first else (-1, "$lt")
    place: Document = {"$gt": ends.pruned.sequence}
    if query.beyond is not None:
        # Two lower bounds are one: `$gt` stands but once.
        bound = max(query.beyond, place["$gt"]) if query.is_oldest_first else query.beyond
        place[beyond] = bound
    filter_: Document = {"_id": place}
    if query.patient is not None:
        filter_["p"] = query.patient
    times = {name: value for name, value in (("$gte", query.start), ("$lte", query.end)) if value}
    if times:
        filter_["a"] = times
    by_time = bool(times) and query.patient is None
    sort = [("a", way), ("_id", way)] if by_time else [("_id", way)]
    found = yield Find(filter_, None, sort, limit=query.limit, collection=_COLLECTION)
    return tuple(_to_record(document) for document in found)


def _newest_before(when: int) -> Steps[ChainLink | None]:
    ends = yield from _ends()
    found = yield Find(
        {"a": {"$lt": when}, "_id": {"$gt": ends.pruned.sequence}},
        None,
        [("a", -1), ("_id", -1)],
        limit=1,
        collection=_COLLECTION,
    )
    return ChainLink(found[0]["_id"], bytes(found[0]["d"])) if found else None


def _to_record(document: Document) -> ChainedText:
    return ChainedText(document["_id"], document["a"], bytes(document["t"]), bytes(document["d"]))
