"""Clauses as SQL: which rows a parameter's values mean, wherever its entries are kept."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TypeVar

from fhir_server.core.search.parameter import SearchParameter, SearchType, Source
from fhir_server.core.search.query import (
    Clause,
    CompositeValue,
    DateValue,
    MissingValue,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
    Value,
)
from fhir_server.store.sqlite.lookup import (
    Lookup,
    Rank,
    date_lookups,
    number_lookup,
    quantity_lookup,
    string_lookup,
)
from fhir_server.store.sqlite.moment import Moment, updated_within
from fhir_server.store.sqlite.names import Names
from fhir_server.store.sqlite.resolve import MANY, Resolver
from fhir_server.store.sqlite.sql import (
    FALSE,
    TRUE,
    Sql,
    all_of,
    any_of,
    is_in,
    join,
    negation,
    sql,
)

V = TypeVar("V", bound=Value)

_MISSING_TABLES = {
    SearchType.TOKEN: ("token_entry", "identifier_entry"),
    SearchType.REFERENCE: ("reference_entry", "uri_entry"),
    SearchType.DATE: ("date_entry",),
    SearchType.STRING: ("string_entry",),
    SearchType.NUMBER: ("number_entry",),
    SearchType.QUANTITY: ("quantity_entry",),
    SearchType.URI: ("uri_entry",),
}
# Tables that are not ordered by parameter and value first.
_KEYED = frozenset(
    {"date_entry", "string_entry", "number_entry", "quantity_entry", "reference_entry"}
)


class Clauses:
    """The clauses of one search, on one snapshot."""

    def __init__(self, connection: sqlite3.Connection, names: Names, moment: Moment) -> None:
        self._connection = connection
        self._names = names
        self._moment = moment
        self.resolver = Resolver(connection, names)

    def parameter(self, resource_type: str, code: str) -> int | None:
        """The id that index rows of a parameter, or a timeline, have."""
        type_id = self._names.type(resource_type)
        if type_id is None:
            return None
        return self._names.parameter(self._moment.generation, type_id, code)

    def lookups(self, clause: Clause) -> Iterator[Lookup]:
        """Rows of which one exists for each version that `clause`, without :not, is true of."""
        parameter, modifier, values = clause
        if parameter.code == "_id":
            yield from self._identities(parameter.resource_type, of_kind(values, TokenValue))
            return
        for source in parameter.sources:
            code = f"{source.code}:identifier" if modifier == "identifier" else source.code
            number = self.parameter(parameter.resource_type, code)
            if number is not None:
                yield from self._of_source(number, source, parameter.type, modifier, values)

    def _of_source(
        self,
        number: int,
        source: Source,
        search_type: SearchType,
        modifier: str,
        values: Sequence[Value],
    ) -> Iterator[Lookup]:
        resolver = self.resolver
        if search_type is SearchType.REFERENCE and modifier != "identifier":
            yield from resolver.references(number, of_kind(values, ReferenceValue), source.target)
        elif search_type in (SearchType.TOKEN, SearchType.REFERENCE):
            if tokens := of_kind(values, TokenValue):
                find = resolver.other_tokens if modifier == "unequal" else resolver.tokens
                yield from find(number, tokens)
            if texts := of_kind(values, StringValue):
                yield from resolver.texts(number, texts)
        else:
            yield from self._of_values(number, modifier, values)

    def _of_values(self, number: int, modifier: str, values: Sequence[Value]) -> Iterator[Lookup]:
        """By the kind of the values, where that alone says which rows are meant."""
        if dates := of_kind(values, DateValue):
            yield from date_lookups(number, dates)
        if strings := of_kind(values, StringValue):
            yield string_lookup(number, modifier, strings)
        if numbers := of_kind(values, NumberValue):
            yield number_lookup(number, numbers)
        if quantities := of_kind(values, QuantityValue):
            yield quantity_lookup(number, quantities)
        if uris := of_kind(values, UriValue):
            find = self.resolver.uris_below if modifier == "below" else self.resolver.uris
            yield from find(number, uris)
        if words := of_kind(values, TextValue):
            yield from self.resolver.words(number, words)

    def _identities(self, resource_type: str, values: Sequence[TokenValue]) -> Iterator[Lookup]:
        wanted = [
            ReferenceValue(resource_type, code) for system, code in values if code and not system
        ]
        yield from _versions_of(self.resolver.keys(wanted, resource_type))

    def updated(self, values: Sequence[Value], version: str) -> Sql:
        """`_lastUpdated`: sequences and times have one order."""
        return any_of(
            updated_within(self._connection, self._moment.as_of, f"{version}.seq", value)
            for value in of_kind(values, DateValue)
        )

    def is_missing(self, parameter: SearchParameter, values: Sequence[Value], version: str) -> Sql:
        if parameter.code in ("_id", "_lastUpdated"):
            has_any = TRUE
        else:
            has_any = any_of(lookup.test(version) for lookup in self._all_rows(parameter))
        return any_of(
            negation(has_any) if value.is_missing else has_any
            for value in of_kind(values, MissingValue)
        )

    def _all_rows(self, parameter: SearchParameter) -> Iterator[Lookup]:
        """Every row of a parameter; of a reference also its logical identifiers."""
        resource_type = parameter.resource_type
        for source in parameter.sources:
            number = self.parameter(resource_type, source.code)
            if number is not None:
                for table in _MISSING_TABLES.get(parameter.type, ()):
                    where = sql("i.parameter = %s", number)
                    if source.target is not None:
                        if table == "uri_entry":
                            continue
                        where = sql(
                            "%s AND EXISTS (SELECT 1 FROM resource t "
                            "WHERE t.key = i.target AND t.type = %s)",
                            where,
                            self._names.type(source.target) or 0,
                        )
                    yield Lookup(table, where, Rank.SCAN, is_keyed=table in _KEYED)
            logical = self.parameter(resource_type, f"{source.code}:identifier")
            if parameter.type is SearchType.REFERENCE and logical is not None:
                yield Lookup(
                    "identifier_entry",
                    sql("i.parameter = %s", logical),
                    Rank.SCAN,
                    is_keyed=False,
                )

    def _parts(
        self, parameter: SearchParameter, value: CompositeValue
    ) -> Iterator[tuple[bool, tuple[Lookup, ...]]]:
        """For each part whether it stands outside the element, and its lookups."""
        for component, part in zip(parameter.components, value.parts, strict=True):
            number = self.parameter(parameter.resource_type, component.code)
            found: tuple[Lookup, ...] = ()
            if number is not None:
                if isinstance(part, TokenValue):
                    found = tuple(self.resolver.tokens(number, (part,)))
                elif isinstance(part, ReferenceValue):
                    found = tuple(self.resolver.references(number, (part,), None))
                else:
                    found = tuple(self._of_values(number, "", (part,)))
            yield component.is_of_resource, found

    def composite(self, parameter: SearchParameter, value: CompositeValue, version: str) -> Sql:
        """Whether one element has all parts."""
        elements: list[Sql] = []
        tests: list[Sql] = []
        for is_of_resource, lookups in self._parts(parameter, value):
            if not lookups:
                return FALSE
            if is_of_resource:
                tests.append(any_of(lookup.test(version) for lookup in lookups))
                continue
            rows = join(" UNION ALL ", (lookup.elements(version) for lookup in lookups))
            elements.append(sql("SELECT * FROM (%s)", rows))
        tests.append(sql("EXISTS (%s)", join(" INTERSECT ", elements)))
        return all_of(tests)

    def composite_lookups(
        self, parameter: SearchParameter, values: Sequence[Value]
    ) -> tuple[Lookup, ...]:
        """The best part of each value; the other parts still have to be in one element with it."""
        lookups: list[Lookup] = []
        for value in of_kind(values, CompositeValue):
            parts = [found for _, found in self._parts(parameter, value)]
            if all(parts):
                lookups += min(parts, key=lambda found: max(each.rank for each in found))
        return tuple(lookups)


def of_kind(values: Sequence[Value], kind: type[V]) -> list[V]:
    return [value for value in values if isinstance(value, kind)]


def _versions_of(keys: Sequence[int]) -> Iterator[Lookup]:
    """The versions of resources, whichever is visible."""
    if len(keys) > MANY:
        yield Lookup("version", is_in("i.resource", keys), Rank.IDENTITY)
        return
    for key in keys:
        yield Lookup("version", sql("i.resource = %s", key), Rank.IDENTITY)
