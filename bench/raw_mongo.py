"""The raw rate of MongoDB: the very documents a run stored, inserted again by a bare loop.

Once into a new collection, whose indexes are as small as they can be, and once into the one
they are in, whose indexes are as deep as the store's own.
"""

import time
from collections.abc import Sequence
from typing import Any

from pymongo import IndexModel, MongoClient, WriteConcern
from pymongo.synchronous.collection import Collection

from bench.process import Process
from bench.raw_sqlite import BATCH, Raw

Document = dict[str, Any]

_COLLECTION = "versions"
_DURABLE = WriteConcern("majority", j=True)


def newest(url: str) -> int:
    """Where the store's commit order ends."""
    with MongoClient[Document](url) as client:
        last = client.get_default_database()[_COLLECTION].find_one(sort=[("_id", -1)])
        return int(last["_id"]) if last else 0


def insert_again(url: str, after: int, database: Process) -> Raw:
    """Insert the documents behind `after` into a new collection, 500 at once.

    It has the same indexes, compression and durability. They are read before the clock runs.
    """
    with MongoClient[Document](url) as client:
        stored = client.get_default_database()[_COLLECTION]
        documents = list(stored.find({"_id": {"$gt": after}}, sort=[("_id", 1)]))
        raw = client["raw"]
        options = {k: v for k, v in stored.options().items() if k != "uuid"}
        target = raw.create_collection(_COLLECTION, write_concern=_DURABLE, **options)
        indexes = [dict(index) for index in stored.list_indexes() if index["name"] != "_id_"]
        if indexes:
            target.create_indexes([_model(index) for index in indexes])
        made = _insert(target, documents, database)
        client.drop_database("raw")
    return made


def insert_beside(url: str, after: int, database: Process) -> Raw:
    """Insert the documents behind `after` once more beside themselves; the store is spoiled."""
    with MongoClient[Document](url) as client:
        stored = client.get_default_database().get_collection(_COLLECTION, write_concern=_DURABLE)
        documents = list(stored.find({"_id": {"$gt": after}}, sort=[("_id", 1)]))
        newest = documents[-1]["_id"]
        for number, document in enumerate(documents, 1):
            document["_id"] = newest + number
            document["k"] += "-again"
        return _insert(stored, documents, database)


def _insert(target: Collection[Document], documents: Sequence[Document], database: Process) -> Raw:
    cpu = time.process_time() + database.cpu_seconds()
    started = time.perf_counter()
    for first in range(0, len(documents), BATCH):
        target.insert_many(documents[first : first + BATCH])
    seconds = time.perf_counter() - started
    cpu = time.process_time() + database.cpu_seconds() - cpu
    return Raw(len(documents), len(documents), seconds, cpu)


def _model(index: Document) -> IndexModel:
    keys = list(index.pop("key").items())
    return IndexModel(keys, **{k: v for k, v in index.items() if k not in ("v", "ns")})
