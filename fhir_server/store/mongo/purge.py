"""Purging: index entries that no search will look at any more.

A version that was superseded stays searchable while page links of that time live; its
body and its place in the history stay for ever.
"""

from datetime import datetime

from pymongo import UpdateMany

from fhir_server.store.mongo import blocking, keys, reads
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.rows import INDEX_FIELDS
from fhir_server.store.mongo.steps import DURABLE

_AT_ONCE = 1_000


def purge(connection: Connection, older_than: datetime) -> int:
    """Drop the index entries of versions superseded before then; how many versions."""
    database = connection.database
    database["kept"].delete_many({"at": {"$lt": older_than}})
    state = database["state"].with_options(write_concern=DURABLE)
    newest = blocking.run(reads.commits(), database, connection.indexes)["sequence"]
    horizon = (
        blocking.run(reads.first_at_or_after(older_than, newest), database, connection.indexes) - 1
    )
    # First the horizon, then the entries: a search never misses what it may ask for.
    state.update_one({"_id": "commits"}, {"$max": {"purged": horizon}})
    versions = database["versions"].with_options(write_concern=DURABLE)
    removed = {name: "" for name in (*INDEX_FIELDS, "e") if name != "x"}
    purged = 0
    superseded = connection.indexes.required("versions", "superseded")
    while True:
        found = versions.find({"e": True, "s": {"$lte": horizon}}, {"_id": 1}, hint=superseded)
        ids = [document["_id"] for document in found.limit(_AT_ONCE)]
        if not ids:
            return purged
        # The marker stays: the history of a type walks along it.
        change = {"$unset": removed, "$set": {"x": [keys.MARKER]}}
        versions.bulk_write([UpdateMany({"_id": {"$in": ids}}, change)])
        purged += len(ids)
