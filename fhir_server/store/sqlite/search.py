"""Running a search: where to begin, in which order to read, and the page that comes out."""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from fhir_server.core.search.parameter import SearchType
from fhir_server.core.search.query import Cursor, Query, Total
from fhir_server.store import page_ends
from fhir_server.store.protocol import FirstPage, Page
from fhir_server.store.sqlite import order, versions
from fhir_server.store.sqlite.criteria import Criteria, Drive
from fhir_server.store.sqlite.first_page import FirstPages
from fhir_server.store.sqlite.moment import find_moment
from fhir_server.store.sqlite.names import Cache, Names
from fhir_server.store.sqlite.sql import TRUE, fetch, sql
from fhir_server.store.sqlite.timeline import TimelineMatch, match_timeline
from fhir_server.store.sqlite.walk import Row, Walker

_TIMELINES = 4_096

_new = tuple.__new__


class Places(NamedTuple):
    """Where versions stand, in the order they were found; `rows` where those were read along."""

    cursors: list[Cursor]
    rows: list[Row] | None = None


class Searcher:
    """Runs searches on any connection to the file."""

    def __init__(self, names: Cache, sort_limit: int) -> None:
        self._names = names
        self._timelines = Cache(_TIMELINES)
        self._first_pages = FirstPages(names)
        self._sort_limit = sort_limit

    def search(self, connection: sqlite3.Connection, query: Query) -> Page:
        """One page of what is committed; the connection's transaction is the snapshot.

        Raises:
            Gone: the moment of `query.as_of` is kept no longer.
        """
        return self._search(connection, query, Names(connection, self._names), self._timelines)

    def search_at_once(self, connection: sqlite3.Connection, query: Query) -> Page | None:
        """The page, if it is one that a single statement finds; there is no transaction."""
        return self._first_pages.find(connection, query)

    def show_at_once(self, connection: sqlite3.Connection, query: Query) -> FirstPage | None:
        """What is shown of that page."""
        return self._first_pages.show(connection, query)

    def search_within(self, connection: sqlite3.Connection, query: Query, names: Names) -> Page:
        """One page of what the transaction of `names` sees: none of it is kept for others.

        Raises:
            Gone: as `search` does.
        """
        return self._search(connection, query, names, None)

    def _search(
        self, connection: sqlite3.Connection, query: Query, names: Names, known: Cache | None
    ) -> Page:
        moment = find_moment(connection, query.as_of)
        criteria = Criteria(connection, names, moment, query.restriction, self._sort_limit)
        search = _Search(connection, criteria, query, self._sort_limit, known)
        places, rows = search.page() if query.count else Places([])
        if known is not None and search.lasting is not None:
            self._first_pages.remember(query, search.lasting, moment.generation, names)
        # On the way back they were found in reverse.
        step = 1 if query.before is None else -1
        cursors = tuple(places[: query.count][::step])
        if rows is None:
            found = versions.load(connection, [cursor.sequence for cursor in cursors])
        else:
            shown = rows[: query.count][::step]
            found = tuple(versions.from_place(query.resource_type, row) for row in shown)
        ends = page_ends.find(query, cursors, is_more=len(places) > query.count)
        total = search.total() if query.total is not Total.NONE or not query.count else None
        return Page(found, moment.as_of, ends.next, total, ends.previous, cursors)


class _Search:
    """One query on one snapshot, with the choice of where to begin."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        criteria: Criteria,
        query: Query,
        sort_limit: int,
        known: Cache | None,
    ) -> None:
        self._connection = connection
        self._criteria = criteria
        self._query = query
        self._sort_limit = sort_limit
        self._asked = criteria.restricted(query.resource_type, query.criteria)
        self._timeline = match_timeline(criteria, query.resource_type, self._asked, known)
        self._chosen: tuple[Drive | None, int] | None = None

    @property
    def lasting(self) -> TimelineMatch | None:
        """The timeline whose order is asked for, if it will always answer all the criteria."""
        match = self._timeline
        if match is None or match.date != self._date_order():
            return None
        is_whole = len(match.covers | match.date_places) == len(self._asked)
        return match if is_whole and match.is_lasting(self._asked) else None

    def page(self) -> Places:
        """The places of one page and the one behind it, in order; on the way back, in reverse."""
        query = self._query
        date = self._date_order()
        timeline = self._timeline
        if date is not None and timeline is not None and timeline.date == date:
            rows = self._walker().by_timeline(timeline)
            return Places(_by_value(rows), rows if timeline.is_of_one else None)
        drive, count = self._best()
        if count < self._sort_limit:
            return self._sorted(drive)
        if not query.sort or [key.parameter.code for key in query.sort] == ["_lastUpdated"]:
            return self._by_sequence()
        if date is not None:
            number = self._criteria.clauses.parameter(query.resource_type, date)
            if number is not None:
                return Places(_by_value(self._walker().by_date(number, date)))
        text = self._text_order()
        if text is not None:
            return Places(_by_value(self._walker().by_text(text)))
        return self._sorted(drive)

    def total(self) -> int:
        """How many matches there are."""
        drive, _ = self._best()
        _, source, where = self._criteria.source(self._query.resource_type, self._asked, drive)
        select = sql("SELECT count(*) FROM %s WHERE %s", source, where)
        count: int = fetch(self._connection, select)[0][0]
        return count

    @cached_property
    def _drives(self) -> list[Drive]:
        """Where the search could begin: nothing that a walk along a timeline has to know."""
        drives = [
            drive
            for place, each in enumerate(self._asked)
            if (drive := self._criteria.drive(each, place)) is not None
        ]
        if self._timeline is not None:
            drives.append(self._timeline.drive())
        return drives

    def _best(self) -> tuple[Drive | None, int]:
        if self._chosen is None:
            self._chosen = self._criteria.best(self._drives)
        return self._chosen

    def _date_order(self) -> str | None:
        """The parameter that owns the dates which are the only order asked for."""
        if len(self._query.sort) != 1:
            return None
        parameter = self._query.sort[0].parameter
        if parameter.type is not SearchType.DATE or parameter.code == "_lastUpdated":
            return None
        return parameter.sources[0].code if len(parameter.sources) == 1 else None

    def _text_order(self) -> int | None:
        """The parameter whose texts are the only order asked for."""
        if len(self._query.sort) != 1:
            return None
        parameter = self._query.sort[0].parameter
        if parameter.type is not SearchType.STRING or len(parameter.sources) != 1:
            return None
        code = parameter.sources[0].code
        return self._criteria.clauses.parameter(self._query.resource_type, code)

    def _by_sequence(self) -> Places:
        """In commit order, from rows that have it; so many that a sort would read for long."""
        ordered = [
            drive
            for drive in self._drives
            if drive.lookups and all(lookup.is_ordered for lookup in drive.lookups)
        ]
        best = min(ordered, key=lambda drive: drive.rank, default=None)
        rows = self._walker().by_sequence(best)
        if not self._query.sort:
            return Places([Cursor((), seq) for _, seq in rows])
        times = versions.times(self._connection, [seq for _, seq in rows])
        return Places([Cursor((times[seq],), seq) for _, seq in rows])

    def _sorted(self, drive: Drive | None) -> Places:
        """All matches, sorted."""
        query = self._query
        version, source, where = self._criteria.source(query.resource_type, self._asked, drive)
        keys = [
            order.sort_key(self._criteria.clauses, key, version, number)
            for number, key in enumerate(query.sort)
        ]
        descends = order.is_descending(query.sort)
        select = sql(f"SELECT {version}.seq AS seq")
        joined = source
        for number, key in enumerate(keys):
            select = sql(f"%s, %s AS k{number}", select, key.expression)
            joined = sql("%s%s", joined, key.joined)
        behind = TRUE
        if query.before is not None:
            behind = order.before(keys, query.before, descends)
        elif query.after is not None:
            behind = order.after(keys, query.after, descends)
        is_reverse = query.before is not None
        statement = sql(
            f"SELECT * FROM (%s FROM %s WHERE %s) WHERE %s "
            f"ORDER BY {order.order_by(keys, descends, is_reverse=is_reverse)} LIMIT %s",
            select,
            joined,
            where,
            behind,
            query.count + 1,
        )
        rows = fetch(self._connection, statement)
        return Places(
            [
                Cursor(
                    tuple(key.to_cursor(v) for key, v in zip(keys, row[1:], strict=True)), row[0]
                )
                for row in rows
            ]
        )

    def _walker(self) -> Walker:
        query = self._query
        return Walker(
            self._connection,
            self._criteria,
            query.resource_type,
            self._asked,
            is_descending=order.is_descending(query.sort),
            start=query.after if query.before is None else query.before,
            is_backward=query.before is not None,
            limit=query.count + 1,
        )


def _by_value(rows: Sequence[Row]) -> list[Cursor]:
    # As calling `Cursor`, in a third of the time: a page has many.
    return [_new(Cursor, ((row[0],), row[1])) for row in rows]
