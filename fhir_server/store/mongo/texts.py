"""Texts: what many resources of a type say alike is kept once, and their versions name it.

Half of the index keys of a reading are the words of texts that all of its kind share. What
one says often, all its words and the texts of its codes, becomes a document of `texts`: in
the fields of a version, so a filter of versions finds it as well. A version then has its key
in their place. What few say, and what was stored before, keeps its words itself; both are
right for ever, so a search asks for either.
"""

import base64
import json
import logging
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.synchronous.database import Database

from fhir_server.core.search import words
from fhir_server.core.search.entry import IndexEntries, TextEntry
from fhir_server.core.search.folding import fold
from fhir_server.store.mongo import keys
from fhir_server.store.mongo.steps import DURABLE, Document, Filter, Find, Steps

_log = logging.getLogger(__name__)

COLLECTION = "texts"

OFTEN = 16
"""How often something is said before it is kept once."""

# No parameter has this name.
_PREFIX = "*" + keys.SEPARATOR
# MongoDB merges up to 200 stretches of an index in their order; more it would have to sort.
_MOST_OF_A_TYPE = 150
_REMEMBERED = 8_192
_LONGEST = 250
_OF_WORDS = (words.TEXT + keys.SEPARATOR, words.CONTENT + keys.SEPARATOR)
# Of a concept without a code; releases before had it on the timelines.
_NO_CODE = keys.SEPARATOR
_DUPLICATE = 11000

_Said = tuple[str, tuple[TextEntry, ...], tuple[tuple[str, str], ...]]
"""A type, the words, and the texts of codes as they were written."""


class Text(NamedTuple):
    """What is said: the keys of words, and the texts of codes."""

    resource_type: str
    keys: tuple[str, ...]
    of_codes: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """The one key that stands for it."""
        said = json.dumps(self, ensure_ascii=False).encode()
        digest = blake2b(said, digest_size=12).digest()
        return _PREFIX + base64.urlsafe_b64encode(digest).decode("ascii")

    @property
    def is_long_enough(self) -> bool:
        return 1 < len(self.keys) + len(self.of_codes) <= _LONGEST

    def to_document(self) -> Document:
        return {
            "_id": self.key,
            "y": self.resource_type,
            "x": list(self.keys),
            "tt": format_of_codes(self.of_codes),
        }


class Texts:
    """The texts that are kept, as one thread knows them.

    `is_allowed` says whether versions may name them: not while processes live that do not
    know of them.
    """

    def __init__(self) -> None:
        self.is_allowed = False
        self._kept: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._known: dict[_Said, str] = {}
        self._seen: dict[_Said, int] = {}
        self._wanted: dict[_Said, Text] = {}

    def key(self, resource_type: str, entries: IndexEntries) -> str | None:
        """The key of what is said in `entries`; None where it is not kept."""
        if not self.is_allowed or not entries.texts:
            return None
        of_codes = tuple([(t.parameter, t.text) for t in entries.tokens if t.text])
        said = (resource_type, entries.texts, of_codes)
        return self._known.get(said) or self._count(said)

    def note(self, text: Text) -> None:
        """Count what a version says that was stored with its words."""
        said = (text.resource_type, (TextEntry("", text.keys),), text.of_codes)
        if said not in self._known:
            self._count(said, text)

    def is_kept(self, text: Text) -> bool:
        return text.key in self._kept

    def keep(self, database: Database[Document]) -> None:
        """Keep what was said often; before a transaction, which would not see it otherwise."""
        if not self._wanted:
            return
        wanted, self._wanted = self._wanted, {}
        try:
            self._keep(database, list(wanted.values()))
        except PyMongoError as error:
            # Its words are kept with it as well; what is said often is said again.
            _log.warning("common texts are not kept yet: %s", type(error).__name__)
            return
        for said, text in wanted.items():
            if text.key in self._kept:
                self._remember(said, text)

    def _remember(self, said: _Said, text: Text) -> None:
        # One text may be written in many ways.
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[said] = text.key

    def _count(self, said: _Said, text: Text | None = None) -> str | None:
        seen = self._seen.get(said, 0) + 1
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[said] = seen
        # Where there was no room, it is asked again at times: what is there may be kept by now.
        if seen >= OFTEN and seen % OFTEN == 0:
            text = text or _text(said)
            if text.is_long_enough:
                if text.key in self._kept:
                    self._remember(said, text)
                    return text.key
                if self._counts.get(said[0], 0) < _MOST_OF_A_TYPE:
                    self._wanted[said] = text
        return None

    def _keep(self, database: Database[Document], wanted: Sequence[Text]) -> None:
        # What a majority has, and no less, will be there for whoever searches.
        collection = database.get_collection(
            COLLECTION, write_concern=DURABLE, read_concern=ReadConcern("majority")
        )
        self._learn(collection.find({}, {"y": 1}))
        new: dict[str, Document] = {}
        for text in wanted:
            count = self._counts.get(text.resource_type, 0)
            if text.key not in self._kept and count < _MOST_OF_A_TYPE:
                self._counts[text.resource_type] = count + 1
                new[text.key] = text.to_document()
        if not new:
            return
        try:
            collection.insert_many(list(new.values()), ordered=False)
        except BulkWriteError as error:
            # Another process kept the same in between.
            if any(each["code"] != _DUPLICATE for each in error.details["writeErrors"]):
                raise
        self._learn(collection.find({}, {"y": 1}))

    def _learn(self, documents: Iterable[Document]) -> None:
        for each in documents:
            self._kept[each["_id"]] = each["y"]
        self._counts = {}
        for resource_type in self._kept.values():
            self._counts[resource_type] = self._counts.get(resource_type, 0) + 1


def _text(said: _Said) -> Text:
    resource_type, entries, of_codes = said
    return Text(
        resource_type, tuple(word_keys(entries)), tuple((code, fold(t)) for code, t in of_codes)
    )


def word_keys(entries: Iterable[TextEntry]) -> list[str]:
    return [f"{text.parameter}\x1f{word}\x1f" for text in entries for word in text.words]


def format_of_codes(of_codes: Iterable[tuple[str, str]]) -> list[Document]:
    return [{"p": code, "t": text} for code, text in of_codes]


def own_text(document: Document) -> Text:
    """What a version says that keeps its words itself."""
    return Text(
        document["y"],
        tuple(key for key in document["x"] if key.startswith(_OF_WORDS)),
        tuple((each["p"], each["t"]) for each in document.get("tt", ())),
    )


def named(index_keys: Iterable[str]) -> list[str]:
    """The texts that a version names."""
    return [key for key in index_keys if key.startswith(_PREFIX)]


def shortened(index_keys: Iterable[str], key: str) -> list[str]:
    """The keys of a version with `key` for all of its words."""
    rest = [each for each in index_keys if not each.startswith(_OF_WORDS) and each != key]
    return [*rest, key]


def in_form_of(stored: Document, fields: Document) -> Document:
    """`fields`, which keep their words, as `stored` keeps them: so that equal is equal."""
    found = named(stored.get("x", ()))
    return _shorten({"y": stored["y"], **fields}, found) if found else fields


def settled(stored: Document) -> Document:
    """`stored` as it would be stored now: what it says twice, or what nobody asks, left out."""
    if _NO_CODE in stored.get("hc", ()):
        stored = {**stored, "hc": [code for code in stored["hc"] if code != _NO_CODE]}
    found = named(stored.get("x", ()))
    return _shorten(stored, found) if found else stored


def _shorten(fields: Document, found: Sequence[str]) -> Document:
    key = own_text(fields).key
    if key not in found:
        return fields
    changed = {name: value for name, value in fields.items() if name != "tt"}
    return {**changed, "x": shortened(fields["x"], key)}


def finding(resource_type: str, filter_: Filter) -> Steps[Filter]:
    """What `filter_` asks of words and texts of codes, asked of those kept once as well."""
    asked = {"$and": [{"y": resource_type}, filter_]}
    found = yield Find(asked, {"_id": 1}, collection=COLLECTION)
    if not found:
        return filter_
    wanted: list[Any] = [each["_id"] for each in found]
    own = filter_.get("x")
    if own is not None and len(filter_) == 1:
        # One condition for all, for the index to be walked in one order.
        if isinstance(own, str):
            return {"x": {"$in": [own, *wanted]}}
        if own.keys() == {"$in"}:
            return {"x": {"$in": [*own["$in"], *wanted]}}
    return {"$or": [filter_, {"x": {"$in": wanted}}]}
