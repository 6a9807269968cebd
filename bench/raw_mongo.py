"""The raw rate of MongoDB: the very documents a run stored, inserted again by a bare loop."""

import time
from typing import Any

from pymongo import IndexModel, MongoClient, WriteConcern

from bench.raw_sqlite import BATCH, Raw

Document = dict[str, Any]

_COLLECTION = "versions"
_DURABLE = WriteConcern("majority", j=True)


def newest(url: str) -> int:
    """Where the store's commit order ends."""
    with MongoClient[Document](url) as client:
        last = client.get_default_database()[_COLLECTION].find_one(sort=[("_id", -1)])
        return int(last["_id"]) if last else 0


def insert_again(url: str, after: int) -> Raw:
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
        started = time.perf_counter()
        for first in range(0, len(documents), BATCH):
            target.insert_many(documents[first : first + BATCH])
        seconds = time.perf_counter() - started
        client.drop_database("raw")
    return Raw(len(documents), len(documents), seconds)


def _model(index: Document) -> IndexModel:
    keys = list(index.pop("key").items())
    return IndexModel(keys, **{k: v for k, v in index.items() if k not in ("v", "ns")})
