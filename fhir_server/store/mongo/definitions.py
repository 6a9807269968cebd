"""Definitions: which search parameters are live, and by which every write is indexed.

The counter of commits says the number of the definitions, so whoever writes learns within
its own transaction that they have changed. While a reindex runs, writes are indexed by those
that are live and by those that will be: neither kind of search misses anything.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.database import Database

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.store.mongo.rows import RowBuilder
from fhir_server.store.mongo.steps import Document, Find, Steps
from fhir_server.store.mongo.texts import Texts
from fhir_server.store.mongo.transactor import Transactor, take_turn
from fhir_server.store.protocol import Extend

_PATIENCE = 30.0


class Stored(NamedTuple):
    """What the store says: a number that grows, what is live, and what will be (if not that)."""

    number: int
    live: tuple[bytes, ...]
    following: tuple[bytes, ...] | None = None


class _Known(NamedTuple):
    number: int
    rows: RowBuilder
    live: SearchDefinitions


class Definitions:
    """The definitions as this process knows them; safe from any thread."""

    def __init__(self, own: SearchDefinitions, extend: Extend | None) -> None:
        self._own = own
        self._extend = extend
        self._texts = Texts()
        self._known = _Known(0, RowBuilder(own.indexer, own.parameters, self._texts), own)

    @property
    def number(self) -> int:
        return self._known.number

    @property
    def live(self) -> SearchDefinitions:
        """What can be searched by."""
        return self._known.live

    @property
    def rows(self) -> RowBuilder:
        """What makes documents now; for a transaction it is `rows_for`."""
        return self._known.rows

    def rows_for(
        self, commits: Document, database: Database[Document], session: ClientSession | None
    ) -> RowBuilder:
        """What makes documents in the transaction that has read `commits`, its counter."""
        self._texts.is_allowed = "texts" in commits
        if self._extend is not None and commits.get("g", 0) != self._known.number:
            self.learn(read(database, session))
        return self._known.rows

    def keep_texts(self, database: Database[Document]) -> None:
        """Keep what many versions say once; before a transaction begins."""
        self._texts.keep(database)

    def learn(self, stored: Stored) -> None:
        """Use what the store says."""
        if self._extend is None or stored.number == self._known.number:
            return
        live = self._own
        if stored.live:
            live = self._extend([resource_json.parse_resource(body) for body in stored.live])
        written = live
        if stored.following is not None:
            bodies = dict.fromkeys((*stored.live, *stored.following))
            written = self._extend([resource_json.parse_resource(body) for body in bodies])
        rows = RowBuilder(written.indexer, live.parameters, self._texts)
        self._known = _Known(stored.number, rows, live)


def read(database: Database[Document], session: ClientSession | None = None) -> Stored:
    return to_stored(database["state"].find_one({"_id": "definitions"}, session=session))


def read_steps() -> Steps[Stored]:
    found = yield Find({"_id": "definitions"}, limit=1, collection="state")
    return to_stored(found[0] if found else None)


def to_stored(found: Document | None) -> Stored:
    if found is None:
        return Stored(0, ())
    following = found.get("next")
    return Stored(
        int(found["g"]),
        tuple(map(bytes, found["live"])),
        None if following is None else tuple(map(bytes, following)),
    )


def change(
    database: Database[Document],
    transactor: Transactor,
    live: Sequence[bytes],
    following: Sequence[bytes] | None,
) -> Stored:
    """Say what is live and what will be; every later write is indexed by both."""

    def body(session: ClientSession) -> Stored:
        state = database["state"]
        take_turn(state, "commits", session)
        number = read(database, session).number + 1
        fields: dict[str, Any] = {"g": number, "live": list(live)}
        if following is not None:
            fields["next"] = list(following)
        state.replace_one({"_id": "definitions"}, fields, upsert=True, session=session)
        state.update_one({"_id": "commits"}, {"$set": {"g": number}}, session=session)
        return read(database, session)

    return transactor.run(body, _PATIENCE)


def format_live(live: Sequence[Resource]) -> tuple[bytes, ...]:
    return tuple(resource_json.format_sorted(resource) for resource in live)
