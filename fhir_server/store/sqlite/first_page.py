"""First pages: the newest or oldest of one subject and code, in one statement.

What hospitals ask for all day. The statement sees one moment by itself, so there is no
transaction around it. It was compiled for a shape: whom it is about, which code and since
when is bound anew for every search. Whatever is unusual about the rows is left to the search
that does everything.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Hashable, Sequence
from operator import is_
from typing import Any, NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.parameter import SearchParameter
from fhir_server.core.search.query import (
    Clause,
    Criterion,
    Cursor,
    DateValue,
    Query,
    ReferenceValue,
    TokenValue,
    Total,
)
from fhir_server.core.version import Version
from fhir_server.store.protocol import FirstPage, Page
from fhir_server.store.sqlite import timeline, versions
from fhir_server.store.sqlite.layout import ANY_CODE, CURRENT, NARROW
from fhir_server.store.sqlite.lookup import narrow_values
from fhir_server.store.sqlite.names import Cache, Names
from fhir_server.store.sqlite.sql import Bound
from fhir_server.store.sqlite.timeline import TimelineMatch
from fhir_server.store.sqlite.versions import INTERACTIONS, instant

_REMEMBERED = 4_096

_new = tuple.__new__


class _Shape(NamedTuple):
    """All that tells one kind of first page from another, and the values it leaves open.

    `clauses` are those of the principal too: what may be seen is never remembered, but bound.
    """

    name: Hashable
    clauses: Sequence[Clause]
    parameters: tuple[SearchParameter, ...]


class _Plan(NamedTuple):
    """The statements of a shape, and which of its clauses each value comes from.

    `shown` selects bodies, `whole` all of a version. They were made of `parameters` and read
    the index rows of `generation`.
    """

    shown: str
    whole: str
    parameters: tuple[SearchParameter, ...]
    generation: int
    timeline: int
    subject: int
    subject_type: int
    code: int | None
    dates: tuple[int, ...]


class FirstPages:
    """First pages whose shape was compiled; any thread may use it."""

    def __init__(self, names: Cache) -> None:
        self._names = names
        self._plans = Cache(_REMEMBERED)

    def remember(self, query: Query, match: TimelineMatch, generation: int, names: Names) -> None:
        """`match` answers every criterion of `query`, and always will."""
        shape = _shape(query)
        if shape is None:
            return
        subject: int | None = None
        code: int | None = None
        dates: list[int] = []
        for place, clause in enumerate(shape.clauses):
            match clause.values[0]:
                case ReferenceValue():
                    subject = place
                case TokenValue():
                    code = place
                case DateValue():
                    dates.append(place)
        if subject is None or (code is None and match.pairs[0][1] != ANY_CODE):
            return
        value = shape.clauses[subject].values[0]
        assert isinstance(value, ReferenceValue)
        subject_type = names.type(value.resource_type or "")
        if subject_type is None:
            return
        plan = _Plan(
            _statement(_SHOWN, match, query),
            _statement(_WHOLE, match, query),
            shape.parameters,
            generation,
            match.parameter,
            subject,
            subject_type,
            code,
            tuple(dates),
        )
        self._plans.put(shape.name, plan)

    def show(self, connection: sqlite3.Connection, query: Query) -> FirstPage | None:
        """The bodies of the page, outside a transaction; None where it has to be searched for."""
        bound = self._bind(connection, query)
        if bound is None:
            return None
        plan, values = bound
        rows = connection.execute(plan.shown, values).fetchall()
        if not rows:
            return None
        count = query.count
        following = None
        if len(rows) > count:
            start, seq = rows[count - 1][:2]
            following = Cursor((start,), seq)
        return FirstPage([row[2] for row in rows[:count]], rows[0][3], following)

    def find(self, connection: sqlite3.Connection, query: Query) -> Page | None:
        """The whole of the page, as `show` finds it."""
        bound = self._bind(connection, query)
        if bound is None:
            return None
        plan, values = bound
        rows = connection.execute(plan.whole, values).fetchall()
        if not rows:
            return None
        cursors: list[Cursor] = []
        found: list[Version] = []
        resource_type = query.resource_type
        # As calling the classes, in a third of the time.
        for start, seq, body, resource_id, version_id, updated, interaction, _ in rows[
            : query.count
        ]:
            cursors.append(_new(Cursor, ((start,), seq)))
            key = _new(ResourceKey, (resource_type, resource_id))
            when = instant(updated)
            found.append(
                _new(Version, (key, version_id, when, INTERACTIONS[interaction], body, seq))
            )
        following = cursors[-1] if len(rows) > query.count else None
        return Page(tuple(found), rows[0][7], following, None, None, tuple(cursors))

    def _bind(
        self, connection: sqlite3.Connection, query: Query
    ) -> tuple[_Plan, list[Bound]] | None:
        """The plan of `query` and its values; None if there is none, or something has no name."""
        shape = _shape(query)
        if shape is None:
            return None
        clauses = shape.clauses
        plan: _Plan | None = self._plans.get(shape.name)
        if plan is None or not _are_the_same(plan.parameters, shape.parameters):
            return None
        names = Names(connection, self._names)
        reference: Any = clauses[plan.subject].values[0]
        subject = names.resource_of(plan.subject_type, reference.resource_id)
        code: int | None = ANY_CODE
        if plan.code is not None:
            token: Any = clauses[plan.code].values[0]
            code = names.code(token.system, token.code)
        if subject is None or code is None:
            return None
        pair = (plan.timeline, subject, code)
        values: list[Bound] = [*pair]
        for place in plan.dates:
            date: Any = clauses[place].values[0]
            values += narrow_values(date)
        values += (plan.generation, *pair, query.count + 1)
        return plan, values


# Bodies alone need nothing of their versions but whether they are current: a small index
# knows which are not (ADR 0036). The condition is the index's own, word for word.
_SHOWN = (
    "d.start, d.seq, b.text",
    "CROSS JOIN body b ON b.seq = d.seq",
    "NOT EXISTS (SELECT 1 FROM version v INDEXED BY version_superseded "
    f"WHERE v.seq = d.seq AND v.superseded < {CURRENT})",
)
_WHOLE = (
    "d.start, d.seq, b.text, r.id, v.version_id, v.updated, v.interaction",
    f"CROSS JOIN version v ON v.seq = d.seq {versions.OWN_JOINS}",
    f"v.superseded = {CURRENT}",
)


def _statement(parts: tuple[str, str, str], match: TimelineMatch, query: Query) -> str:
    selected, joined, is_current = parts
    direction = "DESC" if query.sort[0].descending else "ASC"
    return (
        f"SELECT {selected}, (SELECT max(seq) FROM version) FROM timeline_entry d {joined} "
        "WHERE d.parameter = ? AND d.subject = ? AND d.code = ? "
        f"AND d.wide = {NARROW} AND {timeline.narrow_dates(match.date_values).text} "
        f"AND {is_current} "
        # Where other kinds of rows have to be sorted in, or indexes were made anew, there are
        # none here: the search itself finds them.
        "AND (SELECT value FROM meta WHERE name = 'generation') = ? "
        "AND (SELECT max(wide) FROM timeline_entry "
        f"WHERE parameter = ? AND subject = ? AND code = ?) = {NARROW} "
        f"ORDER BY d.start {direction}, d.seq {direction} LIMIT ?"
    )


def _are_the_same(parameters: Sequence[SearchParameter], others: Sequence[SearchParameter]) -> bool:
    # The same objects but after a change of definitions: what they hold is seldom compared.
    return all(map(is_, parameters, others)) or parameters == others


def _shape(query: Query) -> _Shape | None:
    """None of what is no first page, or means more than names and dates."""
    resource_type, criteria, sort, count, after, as_of, total, restriction, before = query
    if count < 1 or len(sort) != 1 or total is not Total.NONE:
        return None
    if after is not None or before is not None or as_of is not None:
        return None
    asked: Sequence[Criterion] = criteria
    if restriction.by_type:
        asked = (*dict(restriction.by_type).get(resource_type, ()), *criteria)
    parameter, is_descending = sort[0]
    name: list[Hashable] = [resource_type, parameter.code, is_descending]
    clauses: list[Clause] = []
    parameters = [parameter]
    for each in asked:
        if type(each) is not Clause:
            return None
        parameter, modifier, values = each
        if modifier or len(values) != 1:
            return None
        value = values[0]
        kind: Hashable
        if type(value) is DateValue:
            kind = value.prefix
        elif type(value) is TokenValue:
            if value.system is None or value.code is None:
                return None
            kind = TokenValue
        elif type(value) is ReferenceValue:
            kind = value.resource_type
            if kind is None or value.url is not None or value.version is not None:
                return None
        else:
            return None
        name += (parameter.code, kind)
        clauses.append(each)
        parameters.append(parameter)
    return _Shape(tuple(name), clauses, tuple(parameters))
