"""Timelines: which criteria of a search one of them answers, and its rows for them."""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from fhir_server.core.search.parameter import Source
from fhir_server.core.search.query import (
    Clause,
    Criterion,
    DateValue,
    ReferenceValue,
    TokenValue,
)
from fhir_server.store.sqlite import layout
from fhir_server.store.sqlite.clauses import of_kind
from fhir_server.store.sqlite.criteria import Criteria, Drive
from fhir_server.store.sqlite.layout import ANY_CODE, NARROW, TIMELINES, WIDE
from fhir_server.store.sqlite.lookup import Lookup, Rank, date_condition, narrow_bounds
from fhir_server.store.sqlite.names import Cache
from fhir_server.store.sqlite.resolve import MANY
from fhir_server.store.sqlite.sql import Sql, all_of, any_of, sql


class TimelineMatch(NamedTuple):
    """A timeline that answers some criteria: its rows for these subjects and codes."""

    parameter: int
    date: str
    pairs: tuple[tuple[int, int], ...]
    dates: tuple[Clause, ...]
    covers: frozenset[int]
    date_places: frozenset[int]

    @property
    def is_of_one(self) -> bool:
        """Whether it is about one subject and one code."""
        return len(self.pairs) == 1

    @property
    def date_values(self) -> tuple[tuple[DateValue, ...], ...]:
        return tuple(tuple(of_kind(clause.values, DateValue)) for clause in self.dates)

    def is_lasting(self, asked: Sequence[Criterion]) -> bool:
        """Whether it is what `asked` names, and not what has been stored so far."""
        return self.is_of_one and all(
            _is_one_name(asked[place]) for place in self.covers - self.date_places
        )

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


def _is_one_name(criterion: Criterion) -> bool:
    match criterion:
        case Clause(values=(ReferenceValue(resource_type=str()),)):
            return True
        case Clause(values=(TokenValue(system=str(), code=str()),)):
            return True
    return False


def match_timeline(
    criteria: Criteria, resource_type: str, asked: tuple[Criterion, ...], known: Cache | None
) -> TimelineMatch | None:
    """The timeline for `asked`, if there is one that names its subject and code.

    `known` keeps what will always be so: names that were committed never change.
    """
    if known is None:
        return _find(criteria, resource_type, asked)
    name = (criteria.generation, resource_type, asked)
    found: TimelineMatch | None = known.get(name)
    if found is None:
        found = _find(criteria, resource_type, asked)
        if found is not None and found.is_lasting(asked):
            known.put(name, found)
    return found


def _find(
    criteria: Criteria, resource_type: str, asked: Sequence[Criterion]
) -> TimelineMatch | None:
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
        parameter,
        timeline.date,
        pairs,
        tuple(clause for _, clause in dates),
        frozenset(covers),
        frozenset(place for place, _ in dates),
    )


def widest(connection: sqlite3.Connection, parameter: int, subject: int, code: int) -> int | None:
    """The last kind of rows that there is: WIDE and UNDATED are seldom; None of none."""
    row = connection.execute(
        "SELECT max(wide) FROM timeline_entry WHERE parameter = ? AND subject = ? AND code = ?",
        (parameter, subject, code),
    ).fetchone()
    found: int | None = row[0]
    return found


@lru_cache(maxsize=4_096)
def narrow_dates(asked: tuple[tuple[DateValue, ...], ...]) -> Sql:
    """What the narrow rows `d` satisfy that every one of the clauses is true of."""
    return all_of(
        part
        for values in asked
        for part in (
            narrow_bounds("d", values),
            any_of(date_condition("d", value) for value in values),
        )
    )
