"""The moment a search belongs to: a commit sequence, and times as ranges of sequences."""

import sqlite3
from typing import NamedTuple

from fhir_server.core.search.query import DateValue, Prefix
from fhir_server.errors import Gone
from fhir_server.store.sqlite import versions
from fhir_server.store.sqlite.sql import Sql, between, negation

_NOW = """SELECT (SELECT max(seq) FROM version),
(SELECT value FROM meta WHERE name = 'generation'),
(SELECT value FROM meta WHERE name = 'purged')"""


class Moment(NamedTuple):
    """What a search is as of, and the generation of index rows it reads."""

    as_of: int
    generation: int


def find_moment(connection: sqlite3.Connection, as_of: int | None) -> Moment:
    """The moment `as_of`, or now.

    Raises:
        Gone: the index rows of that moment were purged.
    """
    newest, generation, purged = connection.execute(_NOW).fetchone()
    if as_of is None:
        return Moment(newest or 0, generation)
    if as_of < purged:
        raise Gone("the page link has expired: search again")
    return Moment(min(as_of, newest or 0), generation)


def updated_within(
    connection: sqlite3.Connection, as_of: int, column: str, value: DateValue
) -> Sql:
    """Where `meta.lastUpdated` is what `value` asks for, as a range of sequences.

    Times never fall as sequences grow. A stored time is the millisecond it was written in.
    """

    def first(microseconds: int) -> int:
        """The first sequence whose millisecond begins then or later."""
        return versions.first_since(connection, -(-microseconds // 1000), as_of)

    low, high = value.range
    match value.prefix:
        case Prefix.EQ:
            return between(column, first(low), first(high - 999))
        case Prefix.NE:
            return negation(between(column, first(low), first(high - 999)))
        case Prefix.GT:
            return between(column, first(high - 999), None)
        case Prefix.LT:
            return between(column, None, first(low))
        case Prefix.GE:
            return between(column, min(first(low), first(high - 999)), None)
        case Prefix.LE:
            return between(column, None, max(first(low), first(high - 999)))
        case Prefix.SA:
            return between(column, first(high), None)
        case Prefix.EB:
            return between(column, None, first(low - 999))
        case Prefix.AP:
            return between(column, first(low - 999), first(high))
