"""Pieces of SQL with the values they bind, put together without losing their order."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fhir_server.errors import TooCostly

# What every build of SQLite takes, with room for a LIMIT.
_MOST_VALUES = 32_000
_LONGEST = 950_000
# Preparing a statement takes their number squared, and nothing interrupts it. Names are
# not meant: lists of tokens, identifiers and references are sets, of any length.
_MOST_ALTERNATIVES = 500

# How SQLite says that a statement is more than its parser or planner takes.
_TOO_COMPLEX = (
    "parser stack overflow",
    "Expression tree is too large",
    "too many terms in compound SELECT",
    "at most 64 tables in a join",
)

Bound = int | str | bytes


class Sql(NamedTuple):
    """A piece of SQL and what each of its ``?`` binds, in order."""

    text: str
    values: tuple[Bound, ...] = ()

    def __str__(self) -> str:
        raise TypeError("put Sql together with `sql`, which keeps the values")


def fetch(connection: sqlite3.Connection, select: Sql) -> list[Any]:
    """The rows of a select.

    Raises:
        TooCostly: it asks for more than one statement can say.
    """
    if len(select.values) > _MOST_VALUES or len(select.text) > _LONGEST:
        raise TooCostly("the search has more values than one request may have")
    try:
        return connection.execute(*select).fetchall()
    except sqlite3.OperationalError as error:
        if str(error).startswith(_TOO_COMPLEX):
            raise TooCostly("the search is more complex than one request may be") from None
        raise


TRUE = Sql("1")
FALSE = Sql("0")


def sql(template: str, *parts: "Sql | Bound") -> Sql:
    """`template` with each ``%s`` replaced: a piece goes in as text, a value is bound."""
    texts: list[str] = []
    values: list[Bound] = []
    for part in parts:
        if isinstance(part, Sql):
            text, bound = part
            texts.append(text)
            values += bound
        else:
            texts.append("?")
            values.append(part)
    return Sql(template % tuple(texts), tuple(values))


def join(separator: str, parts: Iterable[Sql]) -> Sql:
    found = list(parts)
    return Sql(
        separator.join(part.text for part in found),
        tuple(value for part in found for value in part.values),
    )


def all_of(parts: Iterable[Sql]) -> Sql:
    """True where all are; TRUE of none."""
    found = [part for part in parts if part != TRUE]
    if FALSE in found:
        return FALSE
    if len(found) < 2:
        return found[0] if found else TRUE
    return join(" AND ", found)


def any_of(parts: Iterable[Sql]) -> Sql:
    """True where one is; FALSE of none.

    Raises:
        TooCostly: they are too many to be compared one by one.
    """
    distinct: dict[Sql, None] = {}
    for part in parts:
        if part != FALSE:
            distinct[part] = None
        if len(distinct) > _MOST_ALTERNATIVES:
            raise TooCostly("the search has more alternatives than one request may have")
    found = list(distinct)
    if TRUE in found:
        return TRUE
    if not found:
        return FALSE
    found = [sql("(%s)", part) for part in found] if len(found) > 1 else found
    while len(found) > 1:
        # In pairs: SQLite limits how deep an expression is, not how long.
        found = [
            sql("(%s OR %s)", *found[i : i + 2]) if i + 1 < len(found) else found[i]
            for i in range(0, len(found), 2)
        ]
    return found[0]


def negation(part: Sql) -> Sql:
    if part == TRUE:
        return FALSE
    if part == FALSE:
        return TRUE
    return sql("NOT (%s)", part)


def is_in(column: str, values: Sequence[Bound]) -> Sql:
    """`column` is one of `values`; of none, FALSE."""
    if not values:
        return FALSE
    if len(values) == 1:
        return sql(f"{column} = %s", values[0])
    return sql(f"{column} IN (%s)", join(", ", (Sql("?", (value,)) for value in values)))


def between(column: str, low: Bound | None, high: Bound | None) -> Sql:
    """`low` <= `column` < `high`, where they are given."""
    parts = []
    if low is not None:
        parts.append(sql(f"{column} >= %s", low))
    if high is not None:
        parts.append(sql(f"{column} < %s", high))
    return all_of(parts)
