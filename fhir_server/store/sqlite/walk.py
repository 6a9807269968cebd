"""Walks: pages that are read off an index in their order, instead of being sorted.

A walk is some streams of rows, each in the wanted order; merging them gives the page. A
page of a million readings costs what the page of a thousand does.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Callable, Sequence
from heapq import merge
from typing import Any

from fhir_server.core.search.parameter import Source
from fhir_server.core.search.query import Clause, Criterion, Cursor, DateValue
from fhir_server.store.sqlite import timeline, versions
from fhir_server.store.sqlite.clauses import of_kind
from fhir_server.store.sqlite.criteria import Criteria, Drive
from fhir_server.store.sqlite.layout import FIRST, LAST, NARROW, UNDATED, WIDE
from fhir_server.store.sqlite.lookup import Lookup
from fhir_server.store.sqlite.sql import TRUE, Sql, between, fetch, sql
from fhir_server.store.sqlite.timeline import TimelineMatch

# A row of a page: its sort value, None where it has none, its sequence, and behind them
# the columns of its version where those were read along.
Row = tuple[Any, ...]

_TIMELINE = "timeline_entry d CROSS JOIN version v ON v.seq = d.seq"


class Walker:
    """Runs walks for one query on one snapshot.

    A walk goes from `start`, by default the first row, in the order of the search; with
    `is_backward` from there to the first row.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        criteria: Criteria,
        resource_type: str,
        asked: Sequence[Criterion],
        *,
        is_descending: bool,
        start: Cursor | None,
        is_backward: bool,
        limit: int,
    ) -> None:
        self._connection = connection
        self._criteria = criteria
        self._resource_type = resource_type
        self._asked = asked
        # Which of a resource's dates says where it stands, whichever way the walk goes.
        self._place = LAST if is_descending else FIRST
        self._is_descending = is_descending != is_backward
        self._direction = "DESC" if self._is_descending else "ASC"
        self._start = start
        self._is_backward = is_backward
        self._limit = limit

    def by_sequence(self, drive: Drive | None) -> list[Row]:
        """A page in commit order."""
        last = None if self._start is None else self._start.sequence
        if drive is None:
            return self._all_of_type(last, TRUE)
        return self._merge([self._ordered(lookup, drive, last) for lookup in drive.lookups])

    def by_timeline(self, match: TimelineMatch) -> list[Row]:
        """A page of a timeline, by its dates; what has none comes last.

        Of one subject and code the versions are read along: in a page of several, most that
        is read is not shown.
        """
        columns, source = "d.start, d.seq", _TIMELINE
        if match.is_of_one:
            columns = f"{columns}, {versions.OWN_COLUMNS}"
            source = f"{source} {versions.OWN_JOINS}"
        covers = match.covers - match.date_places
        answered = match.covers | match.date_places
        pairs: list[tuple[Sql, int]] = []
        for subject, code in match.pairs:
            widest = timeline.widest(self._connection, match.parameter, subject, code)
            if widest is not None:
                of_pair = sql(
                    "d.parameter = %s AND d.subject = %s AND d.code = %s",
                    match.parameter,
                    subject,
                    code,
                )
                pairs.append((of_pair, widest))

        def dated() -> list[Row]:
            streams: list[list[Row]] = []
            for of_pair, widest in pairs:
                bounded = timeline.narrow_dates(match.date_values)
                streams.append(
                    self._dated(columns, source, of_pair, NARROW, bounded, answered),
                )
                if widest >= WIDE:
                    streams.append(
                        self._dated(columns, source, of_pair, WIDE, self._at_place(), covers)
                    )
            return self._merge(streams)

        def undated(last: int | None) -> list[Row]:
            return self._merge(
                [
                    self._rows(
                        sql(
                            f"SELECT NULL, {columns.partition(', ')[2]} FROM {source} "
                            "WHERE %s AND d.wide = %s AND %s AND %s AND %s ORDER BY d.start, d.seq "
                            + self._direction,
                            of_pair,
                            UNDATED,
                            self._beyond("d.seq", last),
                            self._criteria.visible("v"),
                            self._criteria.tests(self._asked, Drive((), covers), "v"),
                        )
                    )
                    for of_pair, widest in pairs
                    if widest >= UNDATED
                ]
            )

        return self._in_turn(dated, None if match.dates else undated)

    def by_date(self, parameter: int, date: str) -> list[Row]:
        """A page of all of the type by one date parameter; what has none comes last."""
        places = [
            place
            for place, each in enumerate(self._asked)
            if isinstance(each, Clause)
            and not each.modifier
            and each.parameter.sources == (Source(date),)
        ]
        dates = tuple(
            tuple(of_kind(each.values, DateValue))
            for place in places
            if isinstance(each := self._asked[place], Clause)
        )

        def dated() -> list[Row]:
            of_parameter = sql("d.parameter = %s", parameter)
            source = "date_entry d INDEXED BY date_by_value CROSS JOIN version v ON v.seq = d.seq"
            bounded = timeline.narrow_dates(dates)
            return self._merge(
                [
                    self._dated("d.start, d.seq", source, of_parameter, wide, condition, done)
                    for wide, condition, done in (
                        (NARROW, bounded, frozenset(places)),
                        (WIDE, self._at_place(), frozenset()),
                    )
                ]
            )

        def undated(last: int | None) -> list[Row]:
            has_none = sql(
                "NOT EXISTS (SELECT 1 FROM date_entry i WHERE i.seq = v.seq AND i.parameter = %s)",
                parameter,
            )
            return self._all_of_type(last, has_none)

        return self._in_turn(dated, None if dates else undated)

    def by_text(self, parameter: int) -> list[Row]:
        """A page of all of the type by one string parameter; what has none comes last."""
        # Of several texts the first in the order says where a resource stands. The plus signs
        # keep SQLite from looking for another by value, through half of the index.
        nearer = ">" if self._place == LAST else "<"

        def named() -> list[Row]:
            return self._merge(
                [
                    self._rows(
                        sql(
                            "SELECT d.folded, d.seq FROM string_entry d "
                            "INDEXED BY string_by_value CROSS JOIN version v ON v.seq = d.seq "
                            "WHERE d.parameter = %s AND %s AND %s AND NOT EXISTS "
                            "(SELECT 1 FROM string_entry e WHERE e.seq = d.seq "
                            f"AND +e.parameter = d.parameter AND +e.folded {nearer} d.folded) "
                            "AND %s GROUP BY d.folded, d.seq "
                            f"ORDER BY d.folded {self._direction}, d.seq {self._direction}",
                            parameter,
                            self._beyond_value("d.folded"),
                            self._criteria.visible("v"),
                            self._criteria.tests(self._asked, None, "v"),
                        )
                    )
                ]
            )

        def unnamed(last: int | None) -> list[Row]:
            has_none = sql(
                "NOT EXISTS (SELECT 1 FROM string_entry i "
                "WHERE i.seq = v.seq AND +i.parameter = %s)",
                parameter,
            )
            return self._all_of_type(last, has_none)

        return self._in_turn(named, unnamed)

    def _in_turn(
        self, dated: Callable[[], list[Row]], undated: Callable[[int | None], list[Row]] | None
    ) -> list[Row]:
        """Rows with a value, then those without; on the way back the other way round."""
        start = self._start
        among_undated = start is not None and start.values == (None,)
        last = start.sequence if start is not None and among_undated else None
        found: list[Row] = []
        if self._is_backward:
            if among_undated and undated is not None:
                found = undated(last)
            if len(found) < self._limit:
                found += dated()
        else:
            if not among_undated:
                found = dated()
            if undated is not None and len(found) < self._limit:
                found += undated(last)
        return found[: self._limit]

    def _dated(
        self,
        columns: str,
        source: str,
        of_rows: Sql,
        wide: int,
        condition: Sql,
        answered: frozenset[int],
    ) -> list[Row]:
        """The narrow ranges, or the wide ones; the criteria at `answered` need no test."""
        criteria = self._criteria
        return self._rows(
            sql(
                f"SELECT {columns} FROM {source} "
                f"WHERE %s AND d.wide = {wide} AND %s AND %s AND %s AND %s "
                f"ORDER BY d.start {self._direction}, d.seq {self._direction}",
                of_rows,
                condition,
                self._beyond_value("d.start"),
                criteria.visible("v"),
                criteria.tests(self._asked, Drive((), answered), "v"),
            )
        )

    def _at_place(self) -> Sql:
        return Sql(f"d.place & {self._place}")

    def _ordered(self, lookup: Lookup, drive: Drive, last: int | None) -> list[Row]:
        criteria = self._criteria
        return self._rows(
            sql(
                f"SELECT NULL, i.seq FROM {lookup.table} i {lookup.reading} "
                "CROSS JOIN version v ON v.seq = i.seq "
                "WHERE %s AND %s AND %s AND %s GROUP BY i.seq ORDER BY i.seq " + self._direction,
                lookup.where,
                self._beyond("i.seq", last),
                criteria.visible("v"),
                criteria.tests(self._asked, drive, "v"),
            )
        )

    def _all_of_type(self, last: int | None, condition: Sql) -> list[Row]:
        type_id = self._criteria.type_id(self._resource_type)
        return self._rows(
            sql(
                "SELECT NULL, v.seq FROM version v INDEXED BY version_by_type "
                "WHERE v.type = %s AND %s AND %s AND %s AND %s ORDER BY v.seq " + self._direction,
                type_id or 0,
                self._beyond("v.seq", last),
                self._criteria.visible("v"),
                condition,
                self._criteria.tests(self._asked, None, "v"),
            )
        )

    def _rows(self, select: Sql) -> list[Row]:
        found: list[Row] = fetch(self._connection, sql("%s LIMIT %s", select, self._limit))
        return found

    def _merge(self, streams: Sequence[list[Row]]) -> list[Row]:
        """The first rows of all streams together; what is in two of them counts once."""
        filled = [stream for stream in streams if stream]
        if len(filled) < 2:
            return filled[0] if filled else []
        found: dict[int, Row] = {}
        for row in merge(*filled, key=_place, reverse=self._is_descending):
            found.setdefault(row[1], row)
            if len(found) >= self._limit:
                break
        return list(found.values())

    def _beyond(self, column: str, last: int | None) -> Sql:
        if last is None:
            return Sql("1")
        return between(column, *((None, last) if self._is_descending else (last + 1, None)))

    def _beyond_value(self, column: str) -> Sql:
        if self._start is None or self._start.values == (None,):
            return Sql("1")
        start = self._start.values[0]
        assert start is not None
        operator = "<" if self._is_descending else ">"
        return sql(f"({column}, d.seq) {operator} (%s, %s)", start, self._start.sequence)


def _place(row: Row) -> tuple[Any, int]:
    # The values of one page are of one kind.
    return row[0] or 0, row[1]
