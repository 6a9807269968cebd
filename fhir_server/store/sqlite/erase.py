"""Taking index rows away: of superseded versions, and of definitions no longer used.

Versions and their bodies stay for ever: history needs them. Their index rows serve only
searches as of the time when they were current, and page links do not live long.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from fhir_server.core import resource_json
from fhir_server.store.sqlite import definitions, versions
from fhir_server.store.sqlite.layout import COLUMNS, ENTRY_TABLES, chunks, values_rows
from fhir_server.store.sqlite.rows import RowBuilder
from fhir_server.store.sqlite.transaction import Group, Indexer

# Tables in which the rows of a version are found by its sequence.
_BY_SEQ = {
    "date_entry": "",
    "string_entry": "",
    "number_entry": "",
    "quantity_entry": "",
    "reference_entry": "INDEXED BY reference_by_seq",
}

# Versions superseded in a stretch of the commit order, with what they said.
_SUPERSEDED = """SELECT t.name, p.seq, b.text FROM version n
CROSS JOIN version p ON p.resource = n.resource AND p.version_id = n.version_id - 1
CROSS JOIN body b ON b.seq = p.seq
CROSS JOIN type t ON t.id = p.type
WHERE n.seq > ? AND n.seq <= ?"""


def purge(group: Group, indexer: Indexer, cutoff: int, limit: int) -> tuple[int, bool]:
    """Take the rows of versions that were superseded before `cutoff` (ms since 1970).

    Looks at up to `limit` commits; how many versions it was, and whether there are more.
    """
    connection = group.connection
    purged = versions.meta(connection, "purged")
    newest, _ = versions.newest(connection)
    horizon = versions.first_since(connection, cutoff, newest) - 1
    until = min(purged + limit, horizon)
    if until <= purged:
        return 0, False
    found = connection.execute(_SUPERSEDED, (purged, until)).fetchall()
    erase(group, indexer, group.generation, found)
    versions.set_meta(connection, "purged", until)
    return len(found), until < horizon


def erase(
    group: Group, indexer: Indexer, generation: int, found: Sequence[tuple[str, int, bytes]]
) -> None:
    """Take the rows of versions given as type, sequence and body; some may not have any.

    They are computed again to be found: an index by version would cost every write.
    """
    connection = group.connection
    builder = RowBuilder(group.names, generation)
    for resource_type, seq, body in found:
        builder.add(resource_type, seq, indexer(resource_json.parse_resource(body)))
    sequences = json.dumps([seq for _, seq, _ in found])
    for table, values in builder.tables():
        if table in _BY_SEQ:
            connection.execute(
                f"DELETE FROM {table} {_BY_SEQ[table]} WHERE seq IN "
                "(SELECT value FROM json_each(?)) AND parameter IN "
                "(SELECT id FROM parameter WHERE generation = ?)",
                (sequences, generation),
            )
        else:
            _delete_rows(connection, table, values)


def superseded_since(connection: sqlite3.Connection, seq: int) -> list[tuple[str, int, bytes]]:
    """The versions that a commit behind `seq` superseded."""
    newest, _ = versions.newest(connection)
    return connection.execute(_SUPERSEDED, (seq, newest)).fetchall()


def erase_generations(connection: sqlite3.Connection, before: int, limit: int) -> bool:
    """Take up to `limit` rows of generations before `before`; whether there may be more."""
    old = "(SELECT id FROM parameter WHERE generation < ?)"
    for table in ENTRY_TABLES:
        key = ", ".join(COLUMNS[table])
        gone = connection.execute(
            f"DELETE FROM {table} WHERE ({key}) IN "
            f"(SELECT {key} FROM {table} WHERE parameter IN {old} LIMIT ?)",
            (before, limit),
        )
        if gone.rowcount:
            return True
    connection.execute("DELETE FROM parameter WHERE generation < ?", (before,))
    definitions.erase(connection, before)
    return False


def _delete_rows(connection: sqlite3.Connection, table: str, values: Sequence[Any]) -> None:
    width = len(COLUMNS[table])
    rows = [values[i : i + width] for i in range(0, len(values), width)]
    for part in chunks(rows):
        connection.execute(
            f"DELETE FROM {table} WHERE ({', '.join(COLUMNS[table])}) IN "
            f"(SELECT * FROM ({values_rows(len(part), width)}))",
            [value for row in part for value in row],
        )
