"""Rows: a version and its index entries as one document, and back.

Field names are short because every document repeats them; `documents.py` declares them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from bson.int64 import Int64

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import Entry, IndexEntries
from fhir_server.core.search.folding import fold
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import Interaction, Version
from fhir_server.errors import TooLarge
from fhir_server.store.mongo import keys, owners, texts
from fhir_server.store.mongo.steps import Document
from fhir_server.store.mongo.texts import Texts

CURRENT = 2**62
"""What `superseded` is while nothing supersedes: behind every sequence."""

VERSION_FIELDS = {"_id": 1, "y": 1, "k": 1, "v": 1, "u": 1, "i": 1, "b": 1}

INDEX_FIELDS = ("x", "d", "q", "st", "tt", "c", "hp", "hc", "hd", "hw", "hv")

MILESTONE = 256
"""Every so many versions one has its time indexed: enough to turn times into sequences."""

ANY_CODE = ""
"""Stands among the hot codes of each resource, for searches that name none."""

NARROW_SPAN = 26 * 3_600_000_000
"""The longest range, in microseconds, that is found by its start: a day, summer time or not."""


# A document of MongoDB ends at 16 MiB; the group's other documents must not pay for one
# that is too large.
_LARGEST_DOCUMENT = 16 * 1024 * 1024 - 64 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LETTERS: dict[Interaction, str] = {
    "create": "c", "update": "u", "delete": "d", "update-create": "p",
}  # fmt: skip
_INTERACTIONS: dict[str, Interaction] = {letter: name for name, letter in _LETTERS.items()}
_MILLISECOND = timedelta(milliseconds=1)
_new = tuple.__new__


class HotPath(NamedTuple):
    """An index of its own: what `reference` names, then a code, in order of a date.

    `field` holds the id of the one resource of type `target` that is referred to.
    """

    resource_type: str
    reference: str
    target: str
    token: str | None
    date: str
    field: str
    index_name: str


HOT_PATHS = (
    HotPath("Observation", "subject", "Patient", "code", "date", "hp", "patient_code_date"),
    HotPath("Observation", "device", "Device", None, "date", "hv", "device_date"),
)
_HOT_BY_TYPE: dict[str, tuple[HotPath, ...]] = {}
for _path in HOT_PATHS:
    _HOT_BY_TYPE[_path.resource_type] = (*_HOT_BY_TYPE.get(_path.resource_type, ()), _path)


def to_milliseconds(when: datetime) -> int:
    return (when - _EPOCH) // _MILLISECOND


# All versions of a commit have the same.
@lru_cache(maxsize=4_096)
def from_milliseconds(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


class RowBuilder:
    """Makes documents of versions; safe from any thread.

    What the parts of a composite match must come from one element, so their entries also
    keep which: those of the parameters that composites are made of.
    """

    def __init__(
        self,
        indexer: Callable[[Resource | Filled], IndexEntries],
        parameters: SearchParameters,
        texts: Texts,
    ) -> None:
        self._indexer = indexer
        self._parameters = parameters
        self._texts = texts
        self._parts: dict[str, frozenset[str]] = {}

    def to_document(self, version: Version, resource: Resource | Filled | None) -> Document:
        """The document of `version`, without its `_id`: the sequence is known later.

        Raises:
            TooLarge: more than one document holds.
        """
        document: Document = {
            "y": version.key.resource_type,
            "k": version.key.resource_id,
            "v": version.version_id,
            "u": to_milliseconds(version.last_updated),
            "s": CURRENT,
            "i": _LETTERS[version.interaction],
        }
        if version.body is None or resource is None:
            document["x"] = [keys.MARKER]
            document[owners.FIELD] = version.key.resource_id
            return document
        document["b"] = version.body
        entries = self._indexer(resource)
        text = self._texts.key(version.key.resource_type, entries)
        document.update(self._fields(version.key.resource_type, entries, text))
        document[owners.FIELD] = owners.owner(version.key.resource_id, document["x"])
        if len(version.body) > _LARGEST_DOCUMENT // 8:
            _check_size(version, document)
        return document

    def index_fields(self, resource_type: str, resource: Resource | Filled) -> Document:
        """What searches look at; its words are kept with it."""
        return self._fields(resource_type, self._indexer(resource), None)

    def _fields(self, resource_type: str, entries: IndexEntries, text: str | None) -> Document:
        fields = _index_fields(resource_type, entries, text)
        parts = self._parts_of(resource_type)
        if parts:
            _add_elements(fields, parts, entries)
        return fields

    def _parts_of(self, resource_type: str) -> frozenset[str]:
        parts = self._parts.get(resource_type)
        if parts is None:
            parts = self._parts[resource_type] = frozenset(
                component.code
                for parameter in self._parameters.for_type(resource_type).values()
                for component in parameter.components
                if component.code and not component.is_of_resource
            )
        return parts


def to_plain(value: Any) -> Any:
    """`value` without the driver's own class of 64-bit integers, which encoders refuse."""
    return int(value) if isinstance(value, Int64) else value


def to_version(document: Mapping[str, Any]) -> Version:
    # As calling the classes, in a third of the time: a page is made of many.
    return _new(
        Version,
        (
            _new(ResourceKey, (document["y"], document["k"])),
            document["v"],
            from_milliseconds(document["u"]),
            _INTERACTIONS[document["i"]],
            document.get("b"),
            int(document["_id"]),
        ),
    )


def _index_fields(resource_type: str, entries: IndexEntries, text: str | None) -> Document:
    found = [keys.MARKER]
    fields: Document = {"x": found}
    pair, shared = keys.pair, keys.shared_pair
    for token in entries.tokens:
        make = pair if token.is_identifier else shared
        found.append(make(token.parameter, token.code, token.system))
    for reference in entries.references:
        key = keys.reference(reference)
        found.append(key)
        if reference.version:
            found.append(f"{key}\x1f{keys.escape(reference.version)}")
    for uri in entries.uris:
        found.append(pair(uri.parameter, uri.uri, ""))
    if text is None:
        found += texts.word_keys(entries.texts)
        of_codes = [(token.parameter, fold(token.text)) for token in entries.tokens if token.text]
        if of_codes:
            fields["tt"] = texts.format_of_codes(of_codes)
    if entries.dates:
        fields["d"] = _dates(entries, found)
    if entries.strings:
        fields["st"] = [{"p": s.parameter, "f": s.folded, "w": s.exact} for s in entries.strings]
        found.extend(keys.string(s.parameter, s.folded) for s in entries.strings)
    if entries.numbers or entries.quantities:
        fields["q"] = _amounts(entries, found)
    for path in _HOT_BY_TYPE.get(resource_type, ()):
        _add_hot_fields(fields, path, entries)
    if text is not None:
        found.append(text)
    # Two entries may share a key (a long string's beginning); the index wants it once.
    fields["x"] = list(dict.fromkeys(found))
    return fields


def _add_elements(fields: Document, parts: frozenset[str], entries: IndexEntries) -> None:
    """The element of each composite's part; of those that have but one, nothing is kept."""
    kinds: Sequence[Sequence[Entry]] = entries
    repeated = {
        entry.parameter
        for kind in kinds
        for entry in kind
        if entry.element and entry.parameter in parts
    }
    if not repeated:
        return
    elements: list[Document] = [
        {"p": t.parameter, "k": keys.shared_pair(t.parameter, t.code, t.system), "e": t.element}
        for t in entries.tokens
        if t.parameter in repeated
    ]
    elements += (
        {"p": r.parameter, "k": keys.reference(r), "e": r.element}
        for r in entries.references
        if r.parameter in repeated
    )
    elements += (
        {"p": u.parameter, "k": keys.pair(u.parameter, u.uri, ""), "e": u.element}
        for u in entries.uris
        if u.parameter in repeated
    )
    if elements:
        fields["c"] = elements
    ranged: dict[str, Sequence[Entry]] = {
        "d": entries.dates,
        "st": entries.strings,
        "q": (*entries.numbers, *entries.quantities),
    }
    for name, kind in ranged.items():
        for stored, entry in zip(fields.get(name, ()), kind, strict=True):
            if entry.parameter in repeated:
                stored["e"] = entry.element


def _dates(entries: IndexEntries, found: list[str]) -> list[Document]:
    dates = []
    for date in entries.dates:
        start, end = date.range
        dates.append({"p": date.parameter, "l": start, "h": end})
        wide = keys.WIDE if end - start > NARROW_SPAN else ""
        found.append(keys.date(date.parameter + wide, start))
    return dates


def _amounts(entries: IndexEntries, found: list[str]) -> list[Document]:
    ordered = keys.ordered
    amounts: list[Document] = []
    for number in entries.numbers:
        low = ordered(number.low)
        amounts.append({"p": number.parameter, "l": low, "h": ordered(number.high)})
        wide = "" if number.low == number.high else keys.WIDE
        found.append(keys.amount(number.parameter + wide, "", low))
    for quantity in entries.quantities:
        amount = {
            "p": quantity.parameter,
            "l": ordered(quantity.low),
            "h": ordered(quantity.high),
            "s": quantity.system,
            "c": quantity.code,
            "n": quantity.unit,
        }
        unit, least, most = "", quantity.low, quantity.high
        if quantity.canonical_code:
            unit, least, most = (
                quantity.canonical_code,
                quantity.canonical_low,
                quantity.canonical_high,
            )
            amount |= {"cl": ordered(least), "ch": ordered(most), "cc": unit}
        amounts.append(amount)
        wide = "" if least == most else keys.WIDE
        found.append(keys.amount(quantity.parameter + wide, unit, ordered(least)))
    return amounts


def _add_hot_fields(fields: Document, path: HotPath, entries: IndexEntries) -> None:
    ids = [
        reference.resource_id
        for reference in entries.references
        if reference.parameter == path.reference and reference.resource_type == path.target
    ]
    dates = [date.range for date in entries.dates if date.parameter == path.date]
    if dates:
        fields["hd"] = dates[0].start if len(dates) == 1 else [date.start for date in dates]
        if any(date.end - date.start > NARROW_SPAN for date in dates):
            fields["hw"] = True
    if not ids:
        return
    # One of each, by R4's cardinalities; an array would still be found, only not in order.
    fields[path.field] = ids[0] if len(ids) == 1 else ids
    if path.token:
        codes = [
            keys.code(token.code, token.system)
            for token in entries.tokens
            if token.parameter == path.token and token.code
        ]
        fields["hc"] = list(dict.fromkeys([ANY_CODE, *codes]))


def _check_size(version: Version, document: Document) -> None:
    assert version.body is not None
    length = sum(len(key.encode()) for key in document["x"])
    length += sum(len(s["f"].encode()) + len(s["w"].encode()) for s in document.get("st", ()))
    length += sum(len(t["t"].encode()) for t in document.get("tt", ()))
    entries = sum(len(document.get(name, ())) for name in INDEX_FIELDS[:6])
    if len(version.body) + length + 64 * entries > _LARGEST_DOCUMENT:
        raise TooLarge(f"{version.key} is larger than the store's limit of 16 MiB a resource")
