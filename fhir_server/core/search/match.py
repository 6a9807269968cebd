"""Matching: whether a resource is what a query asks for. The oracle for every store.

Simple on purpose, and slow: each rule of https://hl7.org/fhir/R4/search.html stands here
once, over plain entries. The stores say the same with their indexes, and tests compare.

Where R4 leaves room:
- A clause is true of a resource if any of its entries matches any of the values; so `ne`
  needs an entry that differs, and only `:not` is true where there is none.
- A parameter is `:missing` if it has no entries, nor its references an identifier.
- With a source's target, only local references of that type count.
- `:text` is true of a text that begins with the value.
- A composite's parts match entries with the same `element`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cmp_to_key
from typing import NamedTuple

from fhir_server.core import date_range
from fhir_server.core.date_range import DateRange
from fhir_server.core.search.compare import date_matches, entry_matches
from fhir_server.core.search.entry import (
    DateEntry,
    Entry,
    IndexEntries,
    NumberEntry,
    QuantityEntry,
    ReferenceEntry,
    StringEntry,
    TextEntry,
    TokenEntry,
    UriEntry,
)
from fhir_server.core.search.parameter import SearchParameter, SearchType, Source
from fhir_server.core.search.query import (
    UNRESTRICTED,
    AllOf,
    AnyOf,
    Chain,
    Clause,
    CompositeValue,
    Criterion,
    DateValue,
    Has,
    MissingValue,
    Not,
    Query,
    Restriction,
    SortKey,
    TokenValue,
    Value,
)
from fhir_server.core.version import Version

SortValue = int | str | Decimal | None


class Indexed(NamedTuple):
    """A current resource with its entries."""

    entries: IndexEntries
    version: Version


Resolve = Callable[[str], Iterable[Indexed]]
"""All current resources of a type, deletions left out."""


def matches(
    entries: IndexEntries,
    version: Version,
    criteria: Iterable[Criterion],
    resolve: Resolve,
    restriction: Restriction = UNRESTRICTED,
) -> bool:
    """Whether all of `criteria` are true of a resource, and it may be seen.

    What `restriction` hides is not there for chains and `_has` either.
    """
    return _Matcher(resolve, restriction).sees(Indexed(entries, version), criteria)


def search(query: Query, resolve: Resolve) -> tuple[Version, ...]:
    """All matches of `query` in its order; pages, cursor and moment are not regarded.

    Ties, and searches without an order, go by the commit sequence, ascending unless the
    last sort key descends.
    """
    matcher = _Matcher(resolve, query.restriction)
    found = [i for i in resolve(query.resource_type) if matcher.sees(i, query.criteria)]
    is_descending = bool(query.sort) and query.sort[-1].descending
    found.sort(key=lambda i: i.version.sequence, reverse=is_descending)
    for key in reversed(query.sort):
        found.sort(key=cmp_to_key(_comparison(key)))
    return tuple(indexed.version for indexed in found)


def sort_values(
    entries: IndexEntries, version: Version, sort: Sequence[SortKey]
) -> tuple[SortValue, ...]:
    """What the resource is ordered by, one value for each key.

    Dates are microseconds, numbers Decimals (quantities in canonical units where UCUM
    knows theirs), strings folded, tokens their code, references `Type/id` or their URL.
    """
    return tuple(_sort_value(Indexed(entries, version), key) for key in sort)


def _comparison(key: SortKey) -> Callable[[Indexed, Indexed], int]:
    def compare(left: Indexed, right: Indexed) -> int:
        a, b = _sort_value(left, key), _sort_value(right, key)
        if a is None or b is None:
            return (a is None) - (b is None)
        order = (a > b) - (a < b)  # type: ignore[operator]
        return -order if key.descending else order

    return compare


def _sort_value(indexed: Indexed, key: SortKey) -> SortValue:
    parameter = key.parameter
    if parameter.code == "_id":
        return indexed.version.key.resource_id
    if parameter.code == "_lastUpdated":
        return date_range.from_datetime(indexed.version.last_updated)
    values = [
        value
        for entry in _entries(indexed.entries, parameter)
        if (value := _order_of(entry, key.descending)) is not None
    ]
    if not values:
        return None
    return max(values) if key.descending else min(values)


def _order_of(entry: Entry, descending: bool) -> SortValue:
    match entry:
        case TokenEntry():
            return entry.code or None
        case ReferenceEntry():
            return entry.url or f"{entry.resource_type}/{entry.resource_id}"
        case DateEntry():
            return entry.range.start
        case StringEntry():
            return entry.folded
        case NumberEntry():
            return entry.high if descending else entry.low
        case QuantityEntry():
            return entry.canonical_high if descending else entry.canonical_low
        case UriEntry():
            return entry.uri
        case TextEntry():
            return None


def _entries(entries: IndexEntries, parameter: SearchParameter) -> Iterator[Entry]:
    """The entries of a parameter, wherever they are kept."""
    for source in parameter.sources:
        yield from _of_source(entries, parameter.type, source)


def _of_source(entries: IndexEntries, search_type: SearchType, source: Source) -> Iterator[Entry]:
    for entry in _all(entries, search_type):
        if entry.parameter == source.code and _is_to(entry, source.target):
            yield entry


def _is_to(entry: Entry, target: str | None) -> bool:
    return target is None or (isinstance(entry, ReferenceEntry) and entry.resource_type == target)


def _all(entries: IndexEntries, search_type: SearchType) -> Sequence[Entry]:
    match search_type:
        case SearchType.TOKEN:
            return entries.tokens
        case SearchType.REFERENCE:
            return entries.references
        case SearchType.DATE:
            return entries.dates
        case SearchType.STRING:
            return entries.strings
        case SearchType.NUMBER:
            return entries.numbers
        case SearchType.QUANTITY:
            return entries.quantities
        case SearchType.URI:
            return entries.uris
        case SearchType.SPECIAL:
            return entries.texts
    return ()


class _Matcher:
    def __init__(self, resolve: Resolve, restriction: Restriction) -> None:
        self._resolve = resolve
        self._hidden = dict(restriction.by_type)

    def sees(self, indexed: Indexed, criteria: Iterable[Criterion]) -> bool:
        """Whether the resource may be seen and all of `criteria` are true of it."""
        visible = self._hidden.get(indexed.version.key.resource_type, ())
        return all(self._holds(c, indexed) for c in (*visible, *criteria))

    def _holds(self, criterion: Criterion, indexed: Indexed) -> bool:
        match criterion:
            case Clause():
                return self._clause(criterion, indexed)
            case AnyOf(criteria):
                return any(self._holds(c, indexed) for c in criteria)
            case AllOf(criteria):
                return all(self._holds(c, indexed) for c in criteria)
            case Not(inner):
                return not self._holds(inner, indexed)
            case Chain(parameter, resource_type, inner):
                return any(
                    self._refers(indexed, parameter, other) and self.sees(other, (inner,))
                    for other in self._resolve(resource_type)
                )
            case Has(parameter, inner):
                return any(
                    self._refers(other, parameter, indexed) and self.sees(other, (inner,))
                    for other in self._resolve(parameter.resource_type)
                )

    def _refers(self, source: Indexed, parameter: SearchParameter, target: Indexed) -> bool:
        key = target.version.key
        return any(
            isinstance(entry, ReferenceEntry) and (entry.resource_type, entry.resource_id) == key
            for entry in _entries(source.entries, parameter)
        )

    def _clause(self, clause: Clause, indexed: Indexed) -> bool:
        parameter, modifier, values = clause
        if parameter.code in ("_id", "_lastUpdated"):
            return _of_version(modifier, values, indexed.version)
        entries = indexed.entries
        if modifier == "missing":
            return any(MissingValue(_is_missing(entries, parameter)) == v for v in values)
        if modifier == "identifier":
            found: Iterable[Entry] = _logical(entries, parameter)
        else:
            found = _entries(entries, parameter)
        if parameter.type is SearchType.COMPOSITE:
            return any(
                isinstance(value, CompositeValue) and _composite(entries, parameter, value)
                for value in values
            )
        if modifier == "unequal":
            return any(not any(entry_matches(e, modifier, v) for v in values) for e in found)
        is_found = any(entry_matches(e, modifier, v) for e in found for v in values)
        return is_found is not (modifier == "not")


def _of_version(modifier: str, values: Sequence[Value], version: Version) -> bool:
    """`_id` and `_lastUpdated`: every resource has one of each."""
    start = date_range.from_datetime(version.last_updated)
    # As `meta.lastUpdated` is written: to the millisecond.
    updated = DateRange(start, start + 1000)
    is_found = False
    for value in values:
        match value:
            case MissingValue(is_missing):
                is_found |= not is_missing
            case TokenValue(system, code):
                is_found |= not system and code == version.key.resource_id
            case DateValue():
                is_found |= date_matches(updated, value)
    return is_found is not (modifier == "not")


def _is_missing(entries: IndexEntries, parameter: SearchParameter) -> bool:
    return not any(_entries(entries, parameter)) and not any(_logical(entries, parameter))


def _logical(entries: IndexEntries, parameter: SearchParameter) -> Iterator[TokenEntry]:
    """The logical identifiers of a reference parameter; their types are not known."""
    codes = {f"{source.code}:identifier" for source in parameter.sources}
    return (entry for entry in entries.tokens if entry.parameter in codes)


def _composite(entries: IndexEntries, parameter: SearchParameter, value: CompositeValue) -> bool:
    """Whether there is one element within which every part matches."""
    matched: list[set[int]] = []
    for component, part in zip(parameter.components, value.parts, strict=True):
        elements = {
            entry.element
            for kind in entries
            for entry in kind
            if entry.parameter == component.code and entry_matches(entry, "", part)
        }
        if component.is_of_resource:
            if not elements:
                return False
        else:
            matched.append(elements)
    return bool(set.intersection(*matched))
