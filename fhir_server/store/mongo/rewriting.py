"""Rewriting: versions of releases before name what many say instead of repeating it.

In two steps, for a search that walks the index meanwhile must meet each version at its words
or at what stands for them: first it has both, and when nobody can be behind, no words.
"""

import logging
import threading
import time

from pymongo import UpdateOne
from pymongo.synchronous.database import Database

from fhir_server.store.mongo import texts
from fhir_server.store.mongo.steps import DURABLE, Document
from fhir_server.store.mongo.texts import Texts

SETTLED_SECONDS = 30.0
"""Every search has ended by then that did not know of a text, or walked along the words.

One command may take `blocking.LONGEST_READ`, and a search with chains sends several.
"""

_log = logging.getLogger(__name__)

_AT_ONCE = 20_000
_TELL_AFTER = 10.0
_FIELDS = {"y": 1, "x": 1, "tt": 1}


def share_texts(database: Database[Document], closing: threading.Event) -> None:
    """Go on where it was interrupted, up to the end or until `closing`.

    Any number of processes may do it at once: each changes a version only as it found it.
    """
    state = database["state"].with_options(write_concern=DURABLE)
    versions = database["versions"].with_options(write_concern=DURABLE)
    progress = state.find_one({"_id": "texts"})
    position, told = progress["position"] if progress else 0, time.monotonic()
    known = Texts()
    while not closing.is_set():
        behind = versions.find({"_id": {"$gt": position}}, _FIELDS, hint="_id_").sort("_id", 1)
        found = list(behind.limit(_AT_ONCE))
        if not found:
            state.update_one({"_id": "commits"}, {"$set": {"texts": "all"}})
            return
        changes = _changes(database, known, found)
        if changes:
            versions.bulk_write([_beside(*change) for change in changes], ordered=False)
            if closing.wait(SETTLED_SECONDS):
                return
            versions.bulk_write([_instead(*change) for change in changes], ordered=False)
        position = found[-1]["_id"]
        state.update_one({"_id": "texts"}, {"$max": {"position": position}}, upsert=True)
        if time.monotonic() - told > _TELL_AFTER:
            told = time.monotonic()
            _log.info("naming what many versions say: up to %d of the commit order", position)


def _changes(
    database: Database[Document], known: Texts, found: list[Document]
) -> list[tuple[Document, str]]:
    """Versions that repeat a text that is kept, and its key."""
    said = [(each, text) for each in found if (text := texts.own_text(each)).is_long_enough]
    for _, text in said:
        known.note(text)
    known.keep(database)
    return [(each, text.key) for each, text in said if known.is_kept(text)]


def _beside(found: Document, key: str) -> UpdateOne:
    return UpdateOne({"_id": found["_id"], "x": found["x"]}, {"$addToSet": {"x": key}})


def _instead(found: Document, key: str) -> UpdateOne:
    both = found["x"] if key in found["x"] else [*found["x"], key]
    change = {"$set": {"x": texts.shortened(both, key)}, "$unset": {"tt": ""}}
    return UpdateOne({"_id": found["_id"], "x": both}, change)
