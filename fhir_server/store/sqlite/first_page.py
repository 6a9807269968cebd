"""First pages: the newest or oldest of one subject and code, in one statement.

What hospitals ask for all day. The statement sees one moment by itself, so there is no
transaction around it, and a search that was compiled once is run again without a look at its
criteria. Whatever is unusual about the rows is left to the search that does everything.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Hashable
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import Cursor, Query, Total
from fhir_server.core.version import Version
from fhir_server.store import page_ends
from fhir_server.store.protocol import Page
from fhir_server.store.sqlite import timeline, versions
from fhir_server.store.sqlite.layout import CURRENT, NARROW
from fhir_server.store.sqlite.names import Cache
from fhir_server.store.sqlite.sql import Bound
from fhir_server.store.sqlite.timeline import TimelineMatch
from fhir_server.store.sqlite.versions import INTERACTIONS, instant

_REMEMBERED = 4_096

_new = tuple.__new__


class _Compiled(NamedTuple):
    """A statement, what it binds before its limit, and the index rows that it is about."""

    text: str
    values: tuple[Bound, ...]
    generation: int


class FirstPages:
    """First pages that were compiled; any thread may use it.

    A search is known by all of it, what its principal may see included.
    """

    def __init__(self) -> None:
        self._compiled = Cache(_REMEMBERED)

    def remember(self, query: Query, match: TimelineMatch, generation: int) -> None:
        """`match` answers every criterion of `query`, and always will."""
        name = _name(query)
        if name is None:
            return
        direction = "DESC" if query.sort[0].descending else "ASC"
        dates = timeline.narrow_dates(match.date_values)
        of_pair = (match.parameter, *match.pairs[0])
        text = (
            f"SELECT d.start, d.seq, {versions.OWN_COLUMNS}, (SELECT max(seq) FROM version), "
            "(SELECT value FROM meta WHERE name = 'generation'), "
            "(SELECT max(wide) FROM timeline_entry "
            "WHERE parameter = ? AND subject = ? AND code = ?) "
            "FROM timeline_entry d CROSS JOIN version v ON v.seq = d.seq "
            f"{versions.OWN_JOINS} "
            "WHERE d.parameter = ? AND d.subject = ? AND d.code = ? "
            f"AND d.wide = {NARROW} AND {dates.text} AND v.superseded = {CURRENT} "
            f"ORDER BY d.start {direction}, d.seq {direction} LIMIT ?"
        )
        values = (*of_pair, *of_pair, *dates.values)
        self._compiled.put(name, _Compiled(text, values, generation))

    def find(self, connection: sqlite3.Connection, query: Query) -> Page | None:
        """The page, outside a transaction; None where it has to be searched for."""
        name = _name(query)
        compiled: _Compiled | None = None if name is None else self._compiled.get(name)
        if compiled is None:
            return None
        rows = connection.execute(compiled.text, (*compiled.values, query.count + 1)).fetchall()
        # Rows of other kinds, or of none: they are sorted in by the search itself.
        if not rows or rows[0][8:] != (compiled.generation, NARROW):
            return None
        cursors: list[Cursor] = []
        found: list[Version] = []
        resource_type = query.resource_type
        # As calling the classes, in a third of the time.
        for start, seq, resource_id, version_id, updated, interaction, body, _, _, _ in rows[
            : query.count
        ]:
            cursors.append(_new(Cursor, ((start,), seq)))
            key = _new(ResourceKey, (resource_type, resource_id))
            when = instant(updated)
            found.append(
                _new(Version, (key, version_id, when, INTERACTIONS[interaction], body, seq))
            )
        ends = page_ends.find(query, cursors, is_more=len(rows) > query.count)
        return Page(tuple(found), rows[0][7], ends.next, None, None, tuple(cursors))


def _name(query: Query) -> Hashable | None:
    """All that tells one first page from another; None of what is none."""
    resource_type, criteria, sort, count, after, as_of, total, restriction, before = query
    if count < 1 or len(sort) != 1 or total is not Total.NONE:
        return None
    if after is not None or before is not None or as_of is not None:
        return None
    return resource_type, criteria, sort, restriction
