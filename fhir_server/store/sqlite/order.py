"""The order of a search as SQL: what it sorts by, and what comes after a cursor.

Resources without a value come last in both directions; ties go by the sequence, in the
direction of the last sort key. https://hl7.org/fhir/R4/search.html#sort
"""

# ruff: noqa: S608 - put together from constants; every value is bound

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fhir_server.core.search.parameter import SearchType
from fhir_server.core.search.query import Cursor, SortKey
from fhir_server.store.sqlite.clauses import Clauses
from fhir_server.store.sqlite.sql import FALSE, Bound, Sql, all_of, any_of, is_in, join, sql

CursorValue = int | str | None

_BY_SEQUENCE = {
    SearchType.DATE: ("date_entry", "start", "start"),
    SearchType.STRING: ("string_entry", "folded", "folded"),
    SearchType.NUMBER: ("number_entry", "low", "high"),
    SearchType.QUANTITY: (
        "quantity_entry",
        "coalesce(nullif(i.canonical_low, x''), i.low)",
        "coalesce(nullif(i.canonical_high, x''), i.high)",
    ),
}
_BYTES = frozenset({SearchType.NUMBER, SearchType.QUANTITY})


class Sorted(NamedTuple):
    """A sort key as an expression, the join it needs, and what its values are kept as."""

    expression: Sql
    joined: Sql
    is_descending: bool
    is_bytes: bool

    def to_cursor(self, value: Bound | None) -> CursorValue:
        return value.hex() if isinstance(value, bytes) else value

    def from_cursor(self, value: CursorValue) -> Bound | None:
        return bytes.fromhex(value) if self.is_bytes and isinstance(value, str) else value


def is_descending(sort: Sequence[SortKey]) -> bool:
    """The direction of the sequence, which comes last."""
    return bool(sort) and sort[-1].descending


def sort_key(clauses: Clauses, key: SortKey, version: str, number: int) -> Sorted:
    """`key` for the row `version`; `number` tells it from the other keys."""
    parameter, descending = key
    nothing = Sql("")
    if parameter.code == "_lastUpdated":
        return Sorted(Sql(f"{version}.updated"), nothing, descending, False)
    if parameter.code == "_id":
        identity = f"(SELECT r.id FROM resource r WHERE r.key = {version}.resource)"
        return Sorted(Sql(identity), nothing, descending, False)
    function = "max" if descending else "min"
    if parameter.type in _BY_SEQUENCE:
        table, low, high = _BY_SEQUENCE[parameter.type]
        column = high if descending else low
        ids = [
            found
            for source in parameter.sources
            if (found := clauses.parameter(parameter.resource_type, source.code)) is not None
        ]
        # The plus sign keeps SQLite from walking the values in their order, for each resource
        # anew, until one of them is the resource's.
        expression = sql(
            f"(SELECT {function}(+{column}) FROM {table} i WHERE i.seq = {version}.seq AND %s)",
            is_in("i.parameter", ids),
        )
        return Sorted(expression, nothing, descending, parameter.type in _BYTES)
    values = list(_values(clauses, key))
    if not values:
        return Sorted(Sql("NULL"), nothing, descending, False)
    joined = sql(
        f" LEFT JOIN (SELECT seq, {function}(value) AS value FROM (%s) GROUP BY seq) s{number} "
        f"ON s{number}.seq = {version}.seq",
        join(" UNION ALL ", values),
    )
    return Sorted(Sql(f"s{number}.value"), joined, descending, False)


def after(keys: Sequence[Sorted], cursor: Cursor, last_descends: bool) -> Sql:
    """What comes after `cursor` in rows of columns k0, k1 … and seq."""
    return _beyond(keys, cursor, _is_behind, "<" if last_descends else ">")


def before(keys: Sequence[Sorted], cursor: Cursor, last_descends: bool) -> Sql:
    """What comes before it."""
    return _beyond(keys, cursor, _is_ahead, ">" if last_descends else "<")


def _beyond(
    keys: Sequence[Sorted],
    cursor: Cursor,
    compare: Callable[[str, Bound | None, bool], Sql],
    operator: str,
) -> Sql:
    ends = [key.from_cursor(value) for key, value in zip(keys, cursor.values, strict=True)]
    alternatives = []
    for n, key in enumerate(keys):
        same = [sql(f"k{m} IS %s", end) if end is not None else Sql(f"k{m} IS NULL")
                for m, end in enumerate(ends[:n])]  # fmt: skip
        alternatives.append(all_of((*same, compare(f"k{n}", ends[n], key.is_descending))))
    same = [sql(f"k{m} IS %s", end) if end is not None else Sql(f"k{m} IS NULL")
            for m, end in enumerate(ends)]  # fmt: skip
    alternatives.append(all_of((*same, sql(f"seq {operator} %s", cursor.sequence))))
    return any_of(alternatives)


def order_by(keys: Sequence[Sorted], last_descends: bool, *, is_reverse: bool = False) -> str:
    parts = []
    for n, key in enumerate(keys):
        parts.append(f"k{n} IS {'NOT ' if is_reverse else ''}NULL")
        parts.append(f"k{n} {'DESC' if key.is_descending != is_reverse else 'ASC'}")
    return ", ".join((*parts, f"seq {'DESC' if last_descends != is_reverse else 'ASC'}"))


def _is_behind(column: str, end: Bound | None, descending: bool) -> Sql:
    if end is None:
        return FALSE
    return sql(f"({column} {'<' if descending else '>'} %s OR {column} IS NULL)", end)


def _is_ahead(column: str, end: Bound | None, descending: bool) -> Sql:
    if end is None:
        return Sql(f"{column} IS NOT NULL")
    return sql(f"{column} {'>' if descending else '<'} %s", end)


def _values(clauses: Clauses, key: SortKey) -> Iterator[Sql]:
    """Selects of (seq, value) over all entries of a parameter that has no column to sort by."""
    parameter = key.parameter
    for source in parameter.sources:
        number = clauses.parameter(parameter.resource_type, source.code)
        if number is None:
            continue
        if parameter.type is SearchType.TOKEN:
            yield sql(
                "SELECT i.seq, nullif(c.code, '') AS value FROM token_entry i "
                "CROSS JOIN code c ON c.id = i.code WHERE i.parameter = %s",
                number,
            )
            yield sql(
                "SELECT i.seq, nullif(i.value, '') AS value FROM identifier_entry i "
                "WHERE i.parameter = %s",
                number,
            )
        elif parameter.type is SearchType.REFERENCE:
            yield sql(
                "SELECT i.seq, t.name || '/' || r.id AS value FROM reference_entry i "
                "CROSS JOIN resource r ON r.key = i.target CROSS JOIN type t ON t.id = r.type "
                "WHERE i.parameter = %s AND %s",
                number,
                Sql("1") if source.target is None else sql("t.name = %s", source.target),
            )
        if parameter.type is SearchType.URI or (
            parameter.type is SearchType.REFERENCE and source.target is None
        ):
            yield sql(
                "SELECT i.seq, u.uri AS value FROM uri_entry i "
                "CROSS JOIN uri u ON u.id = i.uri WHERE i.parameter = %s",
                number,
            )
