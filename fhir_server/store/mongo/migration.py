"""Migration: what a new release changes in a store that is in use, beside the work.

Indexes are built while reads and writes go on. What processes of the release before still
need goes when the last of them is gone.
"""

import logging
import threading
import time
from collections.abc import Callable

from pymongo import MongoClient, UpdateOne
from pymongo.errors import PyMongoError
from pymongo.synchronous.database import Database

from fhir_server.store.mongo import owners, rewriting
from fhir_server.store.mongo.indexes import Indexes
from fhir_server.store.mongo.steps import DURABLE, Document

_log = logging.getLogger(__name__)

_AGAIN = 1.0
_AT_ONCE = 1_000
_TELL_AFTER = 10.0
_LONGEST = 60.0
# Behind the silence that ends a process's sessions, so that one which only hung is waited for.
_GONE_AFTER = 10_000


class Migration:
    """A thread that ends when the store is as this release wants it."""

    def __init__(
        self,
        open_client: Callable[[], MongoClient[Document]],
        name: str,
        indexes: Indexes,
        schema: int,
    ) -> None:
        self._open_client = open_client
        self._name = name
        self._indexes = indexes
        self._schema = schema
        self._closing = threading.Event()
        self._client: MongoClient[Document] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="mongo-migration", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Let go of it; what the database has begun it finishes, and the next start goes on."""
        self._closing.set()
        with self._lock:
            if self._client is not None:
                self._client.close()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        wait = _AGAIN
        while not self._closing.is_set():
            try:
                with self._lock:
                    if self._closing.is_set():
                        return
                    # Its own: it waits for hours where everyone else gives up.
                    self._client = self._client or self._open_client()
                if self._step(self._client[self._name]):
                    break
                wait = _AGAIN
            except PyMongoError as error:
                if self._closing.is_set():
                    return
                _log.warning("the store is not brought up to date yet: %s", error)
                wait = min(wait * 2, _LONGEST)
            self._closing.wait(wait)
        with self._lock:
            if self._client is not None:
                self._client.close()

    def _step(self, database: Database[Document]) -> bool:
        """Whether it was the last one."""
        missing = self._indexes.look(database)
        if missing:
            names = ", ".join(f"{each.collection}.{each.name}" for each in missing)
            _log.info("building indexes, reads and writes go on: %s", names)
            self._indexes.build(database, missing)
            if self._indexes.look(database):
                return False
            _log.info("indexes are built: %s", names)
        retired = self._indexes.retired(database)
        if not retired and is_up_to_date(database):
            return True
        if has_older_processes(database, self._schema):
            return False
        for collection, name in retired:
            database[collection].drop_index(name)
            _log.info("dropped the index %s.%s: its definition has changed", collection, name)
        if not is_owned(database):
            self._own(database)
        # From now on versions may name texts; whoever searches here knows of them.
        state = database["state"].with_options(write_concern=DURABLE)
        state.update_one({"_id": "commits", "texts": None}, {"$set": {"texts": "new"}})
        rewriting.share_texts(database, self._closing)
        return not self._closing.is_set()

    def _own(self, database: Database[Document]) -> None:
        """Say of each version who owns it; versions of this release say so themselves."""
        versions = database["versions"].with_options(write_concern=DURABLE)
        position, told = 0, time.monotonic()
        while not self._closing.is_set():
            lacking = {"_id": {"$gt": position}, owners.FIELD: None}
            fields = {"k": 1, "x": 1}
            found = list(versions.find(lacking, fields, hint="_id_").sort("_id", 1).limit(_AT_ONCE))
            if not found:
                state = database["state"].with_options(write_concern=DURABLE)
                state.update_one({"_id": "commits"}, {"$set": {"owned": True}})
                return
            versions.bulk_write(
                [
                    UpdateOne(
                        {"_id": each["_id"], owners.FIELD: None},
                        {"$set": {owners.FIELD: owners.owner(each["k"], each["x"])}},
                    )
                    for each in found
                ],
                ordered=False,
            )
            position = found[-1]["_id"]
            if time.monotonic() - told > _TELL_AFTER:
                told = time.monotonic()
                _log.info("saying who owns each version: up to %d of the commit order", position)


def is_up_to_date(database: Database[Document]) -> bool:
    """Whether every version says its owner, and names what many say."""
    commits = database["state"].find_one({"_id": "commits"}, {"texts": 1})
    is_shared = commits is not None and commits.get("texts") == "all"
    return is_shared and is_owned(database)


def is_owned(database: Database[Document]) -> bool:
    """Whether every version says its owner."""
    commits = database["state"].find_one({"_id": "commits"}, {"owned": 1})
    return commits is not None and bool(commits.get("owned"))


def has_older_processes(database: Database[Document], schema: int) -> bool:
    """Whether a process of a release before this `schema` shows life."""
    age = {"$subtract": ["$$NOW", "$at"]}
    lives = {"$expr": {"$lt": [age, _GONE_AFTER]}}
    is_older = {"$or": [{"schema": None}, {"schema": {"$lt": schema}}]}
    return database["sessions"].find_one({**lives, **is_older}, {"_id": 1}) is not None
