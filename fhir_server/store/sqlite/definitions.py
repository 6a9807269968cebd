"""Definitions: which search parameters were live in which generation of index rows.

A generation never changes, so what was read of one is kept. Whoever writes or searches asks
by the generation that its own transaction sees: no process has to be told.
"""

import sqlite3
from collections.abc import Sequence

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.store.protocol import Extend


class Definitions:
    """The definitions of every generation this process has met; safe from any thread."""

    def __init__(self, own: SearchDefinitions, extend: Extend | None) -> None:
        self._own = own
        self._extend = extend
        self._known: dict[int, SearchDefinitions] = {}

    def of(self, connection: sqlite3.Connection, generation: int) -> SearchDefinitions:
        """What a generation is indexed by; it must have been committed."""
        found = self._known.get(generation)
        if found is None:
            live = read(connection, generation) if self._extend is not None else ()
            found = self._extend(live) if self._extend is not None and live else self._own
            self._known[generation] = found
        return found


def read(connection: sqlite3.Connection, generation: int) -> list[Resource]:
    """The SearchParameter resources that are live in a generation."""
    rows = connection.execute(
        "SELECT body FROM definition WHERE generation = ? ORDER BY number", (generation,)
    ).fetchall()
    return [resource_json.parse_resource(body) for (body,) in rows]


def write(connection: sqlite3.Connection, generation: int, live: Sequence[Resource]) -> None:
    """Say what is live in a generation that is new."""
    connection.executemany(
        "INSERT INTO definition (generation, number, body) VALUES (?, ?, ?)",
        [
            (generation, number, resource_json.format_sorted(resource))
            for number, resource in enumerate(live)
        ],
    )


def erase(connection: sqlite3.Connection, before: int) -> None:
    """Forget what was live in the generations before `before`."""
    connection.execute("DELETE FROM definition WHERE generation < ?", (before,))
