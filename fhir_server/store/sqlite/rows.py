"""From index entries to rows of integers.

Rows are gathered flat, a list of values for each table, ready for `layout.insert_rows`.
This is the hottest Python of an ingest, so what one flush looks up it keeps at hand.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

from fhir_server.core.search.entry import (
    DateEntry,
    IndexEntries,
    QuantityEntry,
    TokenEntry,
)
from fhir_server.core.search.folding import fold
from fhir_server.store.sqlite import layout
from fhir_server.store.sqlite.decimal_key import decimal_key
from fhir_server.store.sqlite.layout import ANY_CODE, DAY, FIRST, LAST, NARROW, UNDATED, WIDE
from fhir_server.store.sqlite.names import Interner

Value = int | str | bytes

K = TypeVar("K")
V = TypeVar("V")

_NO_DATE = ((0, 0, 0, UNDATED, FIRST | LAST),)


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
        self._tokens: _Kept[TokenEntry, tuple[int, int, int, int]] = _Kept(partial(self._token))
        self._targets: _Kept[tuple[str, str], int] = _Kept(partial(self._target))
        self._units: _Kept[tuple[str, str, str, str], int] = _Kept(partial(self._unit))
        self._uris: _Kept[str, int] = _Kept(partial(names.intern_uri))
        self._timelines = [
            (timeline, names.intern_parameter(*self._scope, timeline.code))
            for timeline in layout.TIMELINES
            if timeline.resource_type == resource_type
        ]
        self._subjects = frozenset(timeline.reference for timeline, _ in self._timelines)
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
        self._add_tokens(seq, tokens)
        subjects: list[tuple[str, str, int]] = []
        for code, target_type, target_id, url, version, element in references:
            if target_type:
                target = self._targets[target_type, target_id]
                self._reference_rows.append((parameters[code], target, seq, element, version))
                if code in self._subjects:
                    subjects.append((code, target_type, target))
            else:
                self._uri_rows += (parameters[code], self._uris[url], seq, element, version)
        if dates:
            self._add_dates(seq, dates)
        for code, folded, exact, element in strings:
            self._string_rows += (seq, parameters[code], element, folded, exact)
        for code, low, high, element in numbers:
            self._number_rows += (
                seq, parameters[code], element, decimal_key(low), decimal_key(high),
            )  # fmt: skip
        for quantity in quantities:
            self._add_quantity(seq, quantity)
        for code, text, element in uris:
            self._uri_rows += (parameters[code], self._uris[text], seq, element, "")
        for code, words, _ in texts:
            self._text_rows += (parameters[code], self._names.intern_text(words), seq)
        if subjects:
            for timeline, parameter in self._timelines:
                self._add_timeline(timeline, parameter, seq, subjects, entries)

    def _add_tokens(self, seq: int, tokens: Sequence[TokenEntry]) -> None:
        rows, known = self._token_rows, self._tokens
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
                parameter, code, element, display = known[entry]
                rows += (parameter, code, seq, element, display)

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

    def _add_dates(self, seq: int, dates: Sequence[DateEntry]) -> None:
        if len(dates) == 1:
            by_parameter = {dates[0].parameter: dates}
        else:
            by_parameter = {
                code: [entry for entry in dates if entry.parameter == code]
                for code in dict.fromkeys(entry.parameter for entry in dates)
            }
        for code, of_parameter in by_parameter.items():
            parameter = self._parameters[code]
            for element, start, end, wide, place in _placed(of_parameter):
                self._date_rows += (seq, parameter, element, start, end, wide, place)

    def _add_timeline(
        self,
        timeline: layout.Timeline,
        parameter: int,
        seq: int,
        subjects: Sequence[tuple[str, str, int]],
        entries: IndexEntries,
    ) -> None:
        """Its rows; `subjects` are references that may be one: code, type and key."""
        keys = {
            key
            for code, target_type, key in subjects
            if code == timeline.reference and timeline.target in (None, target_type)
        }
        codes = {ANY_CODE}
        if timeline.code_parameter:
            for entry in entries.tokens:
                if entry[0] == timeline.code_parameter and not entry[3]:
                    codes.add(self._tokens[entry][1])
        dates = _placed([entry for entry in entries.dates if entry[0] == timeline.date])
        places: dict[tuple[int, int, int], int] = {}
        for _, start, end, wide, place in dates or _NO_DATE:
            places[wide, start, end] = places.get((wide, start, end), 0) | place
        rows = self._timeline_rows
        for key in keys:
            for code in codes:
                for (wide, start, end), place in places.items():
                    rows.append((parameter, key, code, wide, start, seq, end, place))

    def _token(self, entry: TokenEntry) -> tuple[int, int, int, int]:
        name = (self._scope, entry)
        found: tuple[int, int, int, int] | None = self._names.recall(name)
        if found is None:
            code = self._names.intern_code(entry.system, entry.code)
            display = self._names.intern_display(code, fold(entry.text))
            found = (self._parameters[entry.parameter], code, entry.element, display)
            self._names.remember(name, found)
        return found

    def _target(self, identity: tuple[str, str]) -> int:
        resource_type, resource_id = identity
        return self._names.intern_resource(self._names.intern_type(resource_type), resource_id)

    def _unit(self, unit: tuple[str, str, str, str]) -> int:
        return self._names.intern_unit(*unit)


def _placed(entries: Sequence[DateEntry]) -> Sequence[tuple[int, int, int, int, int]]:
    """Of dates of one parameter: element, start, end, `wide` and `place` as the schema has them."""
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
