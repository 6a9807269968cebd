"""Reindexing: index entries computed anew, beside the work, after parameters changed.

Documents change in place, one by one. Searches meanwhile find what they did: entries of
definitions that are to be live stand beside those of definitions that are, under names of
their own, and what is live no more goes when no process searches by it any longer. Entries
of R4's own parameters stay what they are, unless a newer release computes them otherwise:
then a search may see old ones and new ones until it is through.
"""

import time
from collections.abc import Callable, Sequence

from pymongo import UpdateOne
from pymongo.synchronous.database import Database

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.store.mongo import definitions, texts
from fhir_server.store.mongo.definitions import Definitions
from fhir_server.store.mongo.rows import CURRENT, INDEX_FIELDS, RowBuilder
from fhir_server.store.mongo.steps import DURABLE, Document
from fhir_server.store.mongo.transactor import Transactor

# By then every process has looked for new definitions (`store/upkeep.py`) and answered the
# searches that it had begun.
SETTLED_SECONDS = 5.0

_AT_ONCE = 500
_FILLING, _CLEANING = "filling", "cleaning"


def reindex(
    database: Database[Document],
    transactor: Transactor,
    known: Definitions,
    report: Callable[[int], None],
    live: Sequence[Resource] | None,
) -> None:
    """Go on where it was interrupted; `report` is told how far in the commit order it is."""
    state = database["state"].with_options(write_concern=DURABLE)
    stored = definitions.read(database)
    wanted = None if live is None else definitions.format_live(live)
    is_going_on = stored.following is not None and wanted in (None, stored.following)
    if not is_going_on and (stored.following is not None or wanted not in (None, stored.live)):
        # Something else is wanted than what was begun, if anything was.
        state.delete_one({"_id": "reindex"})
        following = None if wanted == stored.live else wanted
        stored = definitions.change(database, transactor, stored.live, following)
    known.learn(stored)
    begun = state.find_one({"_id": "reindex"}) or {"phase": _FILLING, "position": 0}
    if begun["phase"] == _FILLING:
        _compute(database, known.rows, report, begun)
        is_any_gone = stored.following is not None and not set(stored.live) <= set(stored.following)
        begun = {"_id": "reindex", "phase": _CLEANING, "position": 0, "is_any_gone": is_any_gone}
        state.replace_one({"_id": "reindex"}, begun, upsert=True)
    if stored.following is not None:
        known.learn(definitions.change(database, transactor, stored.following, None))
    if begun["is_any_gone"]:
        time.sleep(SETTLED_SECONDS)
        _compute(database, known.rows, report, begun)
    state.delete_one({"_id": "reindex"})


def _compute(
    database: Database[Document],
    rows: RowBuilder,
    report: Callable[[int], None],
    begun: Document,
) -> None:
    state = database["state"].with_options(write_concern=DURABLE)
    versions = database["versions"].with_options(write_concern=DURABLE)
    position: int = begun["position"]
    # A version that was purged has no entries to be computed, and must not get any.
    is_indexed = {"i": {"$ne": "d"}, "$or": [{"s": CURRENT}, {"e": True}]}
    while True:
        found = list(
            versions.find({"_id": {"$gt": position}, **is_indexed}, hint="_id_")
            .sort("_id", 1)
            .limit(_AT_ONCE)
        )
        if not found:
            return
        changes = [
            UpdateOne({"_id": document["_id"], **is_indexed}, change)
            for document in found
            if (change := _change(document, rows))
        ]
        if changes:
            versions.bulk_write(changes, ordered=False)
        position = found[-1]["_id"]
        progress = {"$set": {"position": position, "phase": begun["phase"]}}
        state.update_one({"_id": "reindex"}, progress, upsert=True)
        report(position)


def _change(document: Document, rows: RowBuilder) -> Document:
    """What makes the document's index entries those of its body; empty if they are."""
    made = rows.index_fields(document["y"], resource_json.parse_resource(document["b"]))
    fields, stored = texts.in_form_of(document, made), texts.settled(document)
    changed = {n: fields[n] for n in INDEX_FIELDS if n in fields and stored.get(n) != fields[n]}
    gone = {name: "" for name in INDEX_FIELDS if name in stored and name not in fields}
    change: Document = {}
    if changed:
        change["$set"] = changed
    if gone:
        change["$unset"] = gone
    return change
