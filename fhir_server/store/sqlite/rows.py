"""From index entries to rows of integers.

Rows are gathered flat, a list of values for each table, ready for `layout.insert_rows`.
This is the hottest Python of an ingest, so what one flush looks up it keeps at hand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

from fhir_server.core.search.entry import (
    DateEntry,
    IndexEntries,
    QuantityEntry,
    TextEntry,
    TokenEntry,
    UriEntry,
)
from fhir_server.core.search.folding import fold
from fhir_server.core.search.outline import Outline, OutlinedEntries
from fhir_server.store.sqlite import layout
from fhir_server.store.sqlite.decimal_key import decimal_key
from fhir_server.store.sqlite.layout import ANY_CODE, DAY, FIRST, LAST, NARROW, UNDATED, WIDE
from fhir_server.store.sqlite.names import Interner

Value = int | str | bytes

K = TypeVar("K")
V = TypeVar("V")

# Where `seq` stands in a row of each table that `_Alike` has rows of, and the row's width.
_TOKEN, _URI, _TEXT = (
    (layout.COLUMNS[name].index("seq"), len(layout.COLUMNS[name]))
    for name in ("token_entry", "uri_entry", "text_entry")
)


class _Alike(NamedTuple):
    """Rows that all versions of one form have, but for `seq`; `seqs` are those versions.

    `codes` are those that timelines are kept by.
    """

    seqs: list[int]

    token_rows: list[Value]
    uri_rows: list[Value]
    text_rows: list[Value]
    codes: Mapping[str, Set[int]]


# Element, start, end, `wide` and `place`, as the schema has them.
_Placed = tuple[int, int, int, int, int]

_NO_DATE: tuple[_Placed, ...] = ((0, 0, 0, UNDATED, FIRST | LAST),)
_ANY: tuple[int, ...] = (ANY_CODE,)
_NO_CODES: Set[int] = frozenset()


class RowBuilder:
    """Gathers the index rows of versions for one flush."""

    def __init__(self, names: Interner, generation: int) -> None:
        self._names = names
        self._generation = generation
        self._builders: dict[str, _TypeRows] = {}
        self._flat: dict[str, list[Value]] = {name: [] for name in layout.ENTRY_TABLES}
        self._scattered: dict[str, list[tuple[Value, ...]]] = {
            "reference_entry": [],
            "timeline_entry": [],
        }

    def add(self, resource_type: str, seq: int, entries: IndexEntries) -> None:
        """The rows of one version."""
        builder = self._builders.get(resource_type)
        if builder is None:
            builder = _TypeRows(
                self._names, self._generation, resource_type, self._flat, self._scattered
            )
            self._builders[resource_type] = builder
        builder.add(seq, entries)

    def tables(self) -> Iterator[tuple[str, list[Value]]]:
        """What was gathered, each table with the values of its rows one after the other.

        Rows that belong to many patients go all over their table: sorted, those of one
        page come together.
        """
        for builder in self._builders.values():
            builder.add_alike()
        for table, rows in self._scattered.items():
            rows.sort()
            self._flat[table] = list(chain.from_iterable(rows))
        yield from self._flat.items()


class _Kept(dict[K, V]):
    """Values by name, each asked for once."""

    def __init__(self, find: "partial[V]") -> None:
        super().__init__()
        self._find = find

    def __missing__(self, name: K) -> V:
        found = self[name] = self._find(name)
        return found


class _TypeRows:
    """Gathers the rows of one resource type."""

    def __init__(
        self,
        names: Interner,
        generation: int,
        resource_type: str,
        tables: dict[str, list[Value]],
        scattered: dict[str, list[tuple[Value, ...]]],
    ) -> None:
        self._names = names
        self._scope = (generation, names.intern_type(resource_type))
        self._parameters: _Kept[str, int] = _Kept(partial(names.intern_parameter, *self._scope))
        self._tokens: _Kept[TokenEntry, tuple[int, int, int, int, bool]] = _Kept(
            partial(self._token)
        )
        self._targets: _Kept[tuple[str, str], int] = _Kept(partial(self._target))
        self._units: _Kept[tuple[str, str, str, str], int] = _Kept(partial(self._unit))
        self._uris: _Kept[str, int] = _Kept(partial(names.intern_uri))
        self._alike: _Kept[Outline, _Alike] = _Kept(partial(self._find_alike))
        self._timelines = [
            (timeline, names.intern_parameter(*self._scope, timeline.code))
            for timeline in layout.TIMELINES
            if timeline.resource_type == resource_type
        ]
        self._subjects = frozenset(timeline.reference for timeline, _ in self._timelines)
        self._coded = frozenset(timeline.code_parameter for timeline, _ in self._timelines)
        self._token_rows = tables["token_entry"]
        self._identifier_rows = tables["identifier_entry"]
        self._reference_rows = scattered["reference_entry"]
        self._uri_rows = tables["uri_entry"]
        self._date_rows = tables["date_entry"]
        self._string_rows = tables["string_entry"]
        self._number_rows = tables["number_entry"]
        self._quantity_rows = tables["quantity_entry"]
        self._timeline_rows = scattered["timeline_entry"]
        self._text_rows = tables["text_entry"]

    def add(self, seq: int, entries: IndexEntries) -> None:
        """The rows of one version."""
        tokens, references, dates, strings, numbers, quantities, uris, texts = entries
        parameters = self._parameters
        codes: dict[str, Set[int]] = {}
        if isinstance(entries, OutlinedEntries):
            alike = self._alike[entries.outline]
            tokens, uris, texts = entries.own.tokens, entries.own.uris, entries.own.texts
            tokens = (*entries.outline.identifiers, *tokens)
            codes.update(alike.codes)
            alike.seqs.append(seq)
        self._add_tokens(self._token_rows, seq, tokens, codes)
        subjects: list[tuple[str, str, int]] = []
        for code, target_type, target_id, url, version, element in references:
            if target_type:
                target = self._targets[target_type, target_id]
                self._reference_rows.append((parameters[code], target, seq, element, version))
                if code in self._subjects:
                    subjects.append((code, target_type, target))
            else:
                self._uri_rows += (parameters[code], self._uris[url], seq, element, version)
        placed = self._add_dates(seq, dates) if dates else {}
        for code, folded, exact, element in strings:
            self._string_rows += (seq, parameters[code], element, folded, exact)
        for code, low, high, element in numbers:
            self._number_rows += (
                seq, parameters[code], element, decimal_key(low), decimal_key(high),
            )  # fmt: skip
        for quantity in quantities:
            self._add_quantity(seq, quantity)
        self._add_uris(self._uri_rows, seq, uris)
        self._add_texts(self._text_rows, seq, texts)
        if subjects:
            self._add_timelines(seq, subjects, codes, placed)

    def _find_alike(self, outline: Outline) -> _Alike:
        """The rows that are alike where `outline` is."""
        shared = outline.shared
        tokens = [token for token in shared.tokens if not token.is_identifier]
        codes: dict[str, Set[int]] = {}
        rows: tuple[list[Value], list[Value], list[Value]] = ([], [], [])
        self._add_tokens(rows[0], 0, tokens, codes)
        self._add_uris(rows[1], 0, shared.uris)
        self._add_texts(rows[2], 0, shared.texts)
        return _Alike([], *rows, codes)

    def add_alike(self) -> None:
        """The rows that the versions which were added have alike."""
        for alike in self._alike.values():
            _add_alike(self._token_rows, alike.token_rows, alike.seqs, *_TOKEN)
            _add_alike(self._uri_rows, alike.uri_rows, alike.seqs, *_URI)
            _add_alike(self._text_rows, alike.text_rows, alike.seqs, *_TEXT)
            alike.seqs.clear()

    def _add_uris(self, rows: list[Value], seq: int, uris: Iterable[UriEntry]) -> None:
        for code, text, element in uris:
            rows += (self._parameters[code], self._uris[text], seq, element, "")

    def _add_texts(self, rows: list[Value], seq: int, texts: Iterable[TextEntry]) -> None:
        for code, words, _ in texts:
            rows += (self._parameters[code], self._names.intern_text(words), seq)

    def _add_tokens(
        self,
        rows: list[Value],
        seq: int,
        tokens: Iterable[TokenEntry],
        codes: dict[str, Set[int]],
    ) -> None:
        """Their rows, to `rows` if they are codes; to `codes` those that timelines are kept by."""
        known = self._tokens
        for entry in tokens:
            if entry[3]:
                self._identifier_rows += (
                    self._parameters[entry.parameter],
                    entry.code,
                    self._uris[entry.system],
                    seq,
                    entry.element,
                    fold(entry.text) if entry.text else "",
                )
            else:
                parameter, code, element, display, is_coded = known[entry]
                rows += (parameter, code, seq, element, display)
                if is_coded:
                    codes[entry[0]] = {ANY_CODE, code} | codes.get(entry[0], _NO_CODES)

    def _add_quantity(self, seq: int, entry: QuantityEntry) -> None:
        code, low, high, system, unit_code, unit, canonical_low, canonical_high, canonical, at = (
            entry
        )
        low_key = decimal_key(low)
        canonical_key = decimal_key(canonical_low) if canonical else b""
        self._quantity_rows += (
            seq,
            self._parameters[code],
            at,
            self._units[system, unit_code, unit, canonical],
            low_key,
            low_key if high == low else decimal_key(high),
            canonical_key,
            canonical_key if canonical_high == canonical_low or not canonical
            else decimal_key(canonical_high),
        )  # fmt: skip

    def _add_dates(self, seq: int, dates: Sequence[DateEntry]) -> dict[str, Sequence[_Placed]]:
        """Their rows; where they are placed, by parameter."""
        if len(dates) == 1:
            by_parameter = {dates[0][0]: _placed(dates)}
        else:
            by_parameter = {
                code: _placed([entry for entry in dates if entry[0] == code])
                for code in dict.fromkeys(entry[0] for entry in dates)
            }
        for code, placed in by_parameter.items():
            parameter = self._parameters[code]
            for element, start, end, wide, place in placed:
                self._date_rows += (seq, parameter, element, start, end, wide, place)
        return by_parameter

    def _add_timelines(
        self,
        seq: int,
        subjects: Sequence[tuple[str, str, int]],
        codes: Mapping[str, Iterable[int]],
        dates: Mapping[str, Sequence[_Placed]],
    ) -> None:
        """The rows of all timelines; `subjects` are references: code, type and key."""
        rows = self._timeline_rows
        for (_, reference, date, coded, target), parameter in self._timelines:
            keys = {
                key
                for code, target_type, key in subjects
                if code == reference and (target is None or target == target_type)
            }
            if not keys:
                continue
            placed = dates.get(date, _NO_DATE)
            if len(placed) > 1:
                placed = _merged(placed)
            of_codes = codes.get(coded, _ANY) if coded else _ANY
            for _, start, end, wide, place in placed:
                for key in keys:
                    for code in of_codes:
                        rows.append((parameter, key, code, wide, start, seq, end, place))

    def _token(self, entry: TokenEntry) -> tuple[int, int, int, int, bool]:
        name = (self._scope, entry)
        found: tuple[int, int, int, int, bool] | None = self._names.recall(name)
        if found is None:
            code = self._names.intern_code(entry.system, entry.code)
            display = self._names.intern_display(code, fold(entry.text))
            is_coded = entry.parameter in self._coded
            found = (self._parameters[entry.parameter], code, entry.element, display, is_coded)
            self._names.remember(name, found)
        return found

    def _target(self, identity: tuple[str, str]) -> int:
        resource_type, resource_id = identity
        return self._names.intern_resource(self._names.intern_type(resource_type), resource_id)

    def _unit(self, unit: tuple[str, str, str, str]) -> int:
        return self._names.intern_unit(*unit)


def _add_alike(
    gathered: list[Value], rows: list[Value], seqs: Sequence[int], of_seq: int, width: int
) -> None:
    """Add `rows`, flat and each `width` wide, with each of `seqs` in its place.

    In the order of the tables' keys: rows of one code come together, which SQLite takes
    in a third less time.
    """
    for start in range(0, len(rows), width):
        same = rows[start : start + width] * len(seqs)
        same[of_seq::width] = seqs
        gathered += same


def _placed(entries: Sequence[DateEntry]) -> Sequence[_Placed]:
    """Where the dates of one parameter are placed."""
    if len(entries) == 1:
        (_, (start, end), element) = entries[0]
        return ((element, start, end, WIDE if end - start > DAY else NARROW, FIRST | LAST),)
    ordered = sorted(entries, key=lambda entry: entry.range)
    final = len(ordered) - 1
    return [
        (
            element,
            start,
            end,
            WIDE,
            (FIRST if number == 0 else 0) | (LAST if number == final else 0),
        )
        for number, (_, (start, end), element) in enumerate(ordered)
    ]


def _merged(placed: Sequence[_Placed]) -> list[_Placed]:
    """Each range once, whatever element it comes from."""
    places: dict[tuple[int, int, int], int] = {}
    for _, start, end, wide, place in placed:
        places[start, end, wide] = places.get((start, end, wide), 0) | place
    return [(0, *found, place) for found, place in places.items()]
