"""Walks: pages that are read off an index in their order, instead of being sorted.

A walk is some streams of rows, each in the wanted order; merging them gives the page. A
page of a million readings costs what the page of a thousand does.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from typing import Any, NamedTuple

from fhir_server.core.search.parameter import Source
from fhir_server.core.search.query import Clause, Criterion, Cursor, DateValue, TokenValue
from fhir_server.store.sqlite import layout
from fhir_server.store.sqlite.clauses import of_kind
from fhir_server.store.sqlite.criteria import Criteria, Drive
from fhir_server.store.sqlite.layout import ANY_CODE, FIRST, LAST, NARROW, TIMELINES, UNDATED, WIDE
from fhir_server.store.sqlite.lookup import Lookup, Rank, date_condition, narrow_bounds
from fhir_server.store.sqlite.resolve import MANY
from fhir_server.store.sqlite.sql import Sql, all_of, any_of, between, fetch, sql

# A row of a page: its sort value, None where it has none, and its sequence.
Row = tuple[int | str | None, int]


class TimelineMatch(NamedTuple):
    """A timeline that answers some criteria: its rows for these subjects and codes."""

    parameter: int
    date: str
    pairs: tuple[tuple[int, int], ...]
    dates: tuple[Clause, ...]
    covers: frozenset[int]

    def drive(self) -> Drive:
        """Its rows as a place to begin, when they are not walked in their order."""
        lookups = []
        for subject, code in self.pairs:
            of_pair = sql(
                "i.parameter = %s AND i.subject = %s AND i.code = %s",
                self.parameter, subject, code,
            )  # fmt: skip
            if not self.dates:
                lookups.append(Lookup("timeline_entry", of_pair, Rank.TIMELINE))
                continue
            # Only the first clause: of two, different ranges of one resource may be right.
            values = of_kind(self.dates[0].values, DateValue)
            condition = any_of(date_condition("i", value) for value in values)
            for wide, bound in ((NARROW, narrow_bounds("i", values)), (WIDE, Sql("1"))):
                where = all_of((of_pair, Sql(f"i.wide = {wide}"), bound, condition))
                lookups.append(Lookup("timeline_entry", where, Rank.TIMELINE))
        return Drive(tuple(lookups), self.covers)


def match_timeline(
    criteria: Criteria, resource_type: str, asked: Sequence[Criterion]
) -> TimelineMatch | None:
    """The timeline for `asked`, if there is one that names its subject and code."""
    for timeline in TIMELINES:
        if timeline.resource_type != resource_type:
            continue
        parameter = criteria.clauses.parameter(resource_type, timeline.code)
        found = None if parameter is None else _match(criteria, timeline, parameter, asked)
        if found is not None:
            return found
    return None


def _match(
    criteria: Criteria, timeline: layout.Timeline, parameter: int, asked: Sequence[Criterion]
) -> TimelineMatch | None:
    subjects: tuple[int, tuple[int, ...]] | None = None
    codes: tuple[int, tuple[int, ...]] | None = None
    dates: list[tuple[int, Clause]] = []
    for place, criterion in enumerate(asked):
        if subjects is None:
            keys = criteria.targets(criterion, timeline.reference, timeline.target)
            if keys is not None:
                subjects = place, keys
                continue
        if not isinstance(criterion, Clause) or criterion.modifier:
            continue
        if criterion.parameter.sources == (Source(timeline.date),):
            dates.append((place, criterion))
        elif codes is None and criterion.parameter.sources == (
            Source(timeline.code_parameter or ""),
        ):
            values = of_kind(criterion.values, TokenValue)
            if not criteria.clauses.resolver.has_whole_systems(values):
                codes = place, tuple(criteria.clauses.resolver.codes(values))
    if subjects is None:
        return None
    pairs = tuple(
        (subject, code) for subject in subjects[1] for code in (codes[1] if codes else (ANY_CODE,))
    )
    if len(pairs) > MANY:
        return None
    covers = {subjects[0]} | ({codes[0]} if codes else set()) | {p for p, _ in dates[:1]}
    return TimelineMatch(
        parameter, timeline.date, pairs, tuple(clause for _, clause in dates), frozenset(covers)
    )


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
            return self._page([self._all_of_type(last, Sql("1"))])
        return self._page([self._ordered(lookup, drive, last) for lookup in drive.lookups])

    def by_timeline(self, match: TimelineMatch) -> list[Row]:
        """A page of a timeline, by its dates; what has none comes last."""
        of_pairs = [
            sql(
                "d.parameter = %s AND d.subject = %s AND d.code = %s",
                match.parameter,
                subject,
                code,
            )
            for subject, code in match.pairs
        ]
        covers = match.covers - {
            place for place, each in enumerate(self._asked) if each in match.dates
        }

        def dated() -> list[Row]:
            return self._page(
                [
                    stream
                    for of_pair in of_pairs
                    for stream in self._dated("timeline_entry d", of_pair, match.dates, covers)
                ]
            )

        def undated(last: int | None) -> list[Row]:
            tests = self._criteria.tests(self._asked, Drive((), covers), "v")
            return self._page(
                [
                    self._rows(
                        sql(
                            "SELECT NULL, d.seq FROM timeline_entry d "
                            "CROSS JOIN version v ON v.seq = d.seq "
                            "WHERE %s AND d.wide = %s AND %s AND %s AND %s ORDER BY d.start, d.seq "
                            + self._direction,
                            of_pair,
                            UNDATED,
                            self._beyond("d.seq", last),
                            self._criteria.visible("v"),
                            tests,
                        )
                    )
                    for of_pair in of_pairs
                ]
            )

        return self._in_turn(dated, None if match.dates else undated)

    def by_date(self, parameter: int, date: str) -> list[Row]:
        """A page of all of the type by one date parameter; what has none comes last."""
        dates = tuple(
            each
            for each in self._asked
            if isinstance(each, Clause)
            and not each.modifier
            and each.parameter.sources == (Source(date),)
        )

        def dated() -> list[Row]:
            of_parameter = sql("d.parameter = %s", parameter)
            table = "date_entry d INDEXED BY date_by_value"
            return self._page(list(self._dated(table, of_parameter, dates, frozenset())))

        def undated(last: int | None) -> list[Row]:
            has_none = sql(
                "NOT EXISTS (SELECT 1 FROM date_entry i WHERE i.seq = v.seq AND i.parameter = %s)",
                parameter,
            )
            return self._page([self._all_of_type(last, has_none)])

        return self._in_turn(dated, None if dates else undated)

    def by_text(self, parameter: int) -> list[Row]:
        """A page of all of the type by one string parameter; what has none comes last."""
        # Of several texts the first in the order says where a resource stands. The plus signs
        # keep SQLite from looking for another by value, through half of the index.
        nearer = ">" if self._place == LAST else "<"

        def named() -> list[Row]:
            return self._page(
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
            return self._page([self._all_of_type(last, has_none)])

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
        self, table: str, of_rows: Sql, dates: Sequence[Clause], covers: frozenset[int]
    ) -> Iterator[Iterator[Row]]:
        """The narrow ranges, which `dates` bound, and the wide ones, which are each tested."""
        criteria = self._criteria
        values = [of_kind(clause.values, DateValue) for clause in dates]
        bounded = all_of(
            part
            for of_clause in values
            for part in (
                narrow_bounds("d", of_clause),
                any_of(date_condition("d", value) for value in of_clause),
            )
        )
        answered = covers | {n for n, each in enumerate(self._asked) if each in dates}
        for wide, condition, done in (
            (NARROW, bounded, answered),
            (WIDE, Sql(f"d.place & {self._place}"), covers),
        ):
            yield self._rows(
                sql(
                    f"SELECT d.start, d.seq FROM {table} "
                    "CROSS JOIN version v ON v.seq = d.seq "
                    "WHERE %s AND d.wide = %s AND %s AND %s AND %s AND %s "
                    f"ORDER BY d.start {self._direction}, d.seq {self._direction}",
                    of_rows,
                    wide,
                    condition,
                    self._beyond_value("d.start"),
                    criteria.visible("v"),
                    criteria.tests(self._asked, Drive((), done), "v"),
                )
            )

    def _ordered(self, lookup: Lookup, drive: Drive, last: int | None) -> Iterator[Row]:
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

    def _all_of_type(self, last: int | None, condition: Sql) -> Iterator[Row]:
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

    def _rows(self, select: Sql) -> Iterator[Row]:
        rows: list[Row] = fetch(self._connection, sql(f"%s LIMIT {self._limit}", select))
        return iter(rows)

    def _page(self, streams: Sequence[Iterator[Row]]) -> list[Row]:
        """The first rows of all streams together; what is in two of them counts once."""
        found: dict[int, Row] = {}
        for row in merge(*streams, key=_place, reverse=self._is_descending):
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
    return (row[0] or 0, row[1])
