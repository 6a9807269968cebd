"""Reindexing: index entries computed anew, beside the work, after parameters changed.

Each document changes at once and alone, so a search meanwhile sees old entries of some
versions and new ones of others; that lasts until it is through.
"""

from collections.abc import Callable

from pymongo import UpdateOne
from pymongo.synchronous.database import Database

from fhir_server.core import resource_json
from fhir_server.store.mongo.rows import CURRENT, INDEX_FIELDS, RowBuilder
from fhir_server.store.mongo.steps import Document
from fhir_server.store.mongo.transactor import DURABLE

_AT_ONCE = 500


def reindex(database: Database[Document], rows: RowBuilder, report: Callable[[int], None]) -> None:
    """Go on where it was interrupted; `report` is told how far in the commit order it is."""
    state = database["state"].with_options(write_concern=DURABLE)
    versions = database["versions"].with_options(write_concern=DURABLE)
    begun = state.find_one({"_id": "reindex"})
    position: int = begun["position"] if begun else 0
    # A version that was purged has no entries to be computed, and must not get any.
    is_indexed = {"i": {"$ne": "d"}, "$or": [{"s": CURRENT}, {"e": True}]}
    while True:
        found = list(
            versions.find({"_id": {"$gt": position}, **is_indexed}, hint="_id_")
            .sort("_id", 1)
            .limit(_AT_ONCE)
        )
        if not found:
            break
        changes = [
            UpdateOne({"_id": document["_id"], **is_indexed}, change)
            for document in found
            if (change := _change(document, rows))
        ]
        if changes:
            versions.bulk_write(changes, ordered=False)
        position = found[-1]["_id"]
        state.update_one({"_id": "reindex"}, {"$set": {"position": position}}, upsert=True)
        report(position)
    state.delete_one({"_id": "reindex"})


def _change(document: Document, rows: RowBuilder) -> Document:
    """What makes the document's index entries those of its body; empty if they are."""
    fields = rows.index_fields(document["y"], resource_json.parse_resource(document["b"]))
    changed = {name: v for name, v in fields.items() if document.get(name) != v}
    gone = {name: "" for name in INDEX_FIELDS if name in document and name not in fields}
    change: Document = {}
    if changed:
        change["$set"] = changed
    if gone:
        change["$unset"] = gone
    return change
