"""Explaining: the statements a search becomes, and which indexes each of them reads.

The search is run, as what it begins with depends on what is found. Nothing of a request or a
resource is told: plans name tables, indexes and columns.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

from fhir_server.core.search.query import Query, Total
from fhir_server.errors import TooCostly
from fhir_server.store.protocol import Page
from fhir_server.store.sqlite.connection import is_interrupted, translated

# The machine tells every so many steps how far it is.
_STEPS = 100

Search = Callable[[sqlite3.Connection, Query], Page]


def explain(
    connect: Callable[[], sqlite3.Connection], search: Search, query: Query, seconds: float
) -> tuple[str, ...]:
    """How `search` finds `query`, in lines.

    Raises:
        TooCostly: it takes longer than `seconds`.
    """
    # One of its own: the others' clocks and prepared statements are left alone.
    with translated(), closing(connect()) as connection:
        statements: list[str] = []
        steps = 0
        deadline = time.monotonic() + seconds

        def count() -> bool:
            nonlocal steps
            steps += 1
            return time.monotonic() > deadline

        connection.execute("BEGIN")
        connection.set_progress_handler(count, _STEPS)
        connection.set_trace_callback(statements.append)
        begun = time.perf_counter()
        try:
            page = search(connection, query)
        except sqlite3.OperationalError as error:
            if is_interrupted(error):
                raise TooCostly("the search takes longer than one request may") from None
            raise
        milliseconds = (time.perf_counter() - begun) * 1000
        connection.set_trace_callback(None)
        connection.set_progress_handler(None, _STEPS)
        lines = [line for text in statements for line in _plan(connection, text)]
    counted = "" if query.total is Total.NONE else f" of {page.total}"
    return (
        *dict.fromkeys(lines),
        f"SQLite: {len(statements)} statements, about {steps * _STEPS} steps of its machine, "
        f"{milliseconds:.1f} ms for {len(page.versions)}{counted} matches",
    )


def _plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
        return []
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
    return [
        f"SQLite: {detail}"
        for *_, detail in rows
        if detail.startswith(("SEARCH", "SCAN", "USE TEMP B-TREE"))
    ]
