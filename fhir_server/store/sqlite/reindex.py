"""Reindexing: new index rows beside those that are searched, then one switch.

Rows of a new generation bear new parameter ids. Steps of it run between other commits,
are resumed after a crash, and nobody's search sees them until the last one makes them
current. Processes that began before with older definitions have to be restarted.
"""

from enum import Enum

from fhir_server.core import resource_json
from fhir_server.store.sqlite import versions
from fhir_server.store.sqlite.erase import erase, erase_generations, superseded_since
from fhir_server.store.sqlite.layout import insert_rows
from fhir_server.store.sqlite.rows import RowBuilder
from fhir_server.store.sqlite.transaction import Group, Indexer

_GENERATION, _POSITION, _BEGAN = "reindex_generation", "reindex_position", "reindex_began"

_CURRENT = """SELECT t.name, v.seq, b.text FROM version v
CROSS JOIN body b ON b.seq = v.seq
CROSS JOIN type t ON t.id = v.type
WHERE v.seq > ? AND v.seq <= ? AND v.superseded > ?"""


class Phase(Enum):
    """What the next step of a reindex does."""

    FILLING = "filling"
    CLEANING = "cleaning"
    DONE = "done"


def begin(group: Group) -> None:
    """Start anew, or go on with one that was interrupted."""
    connection = group.connection
    if versions.meta(connection, _GENERATION) == 0:
        # What an abandoned generation left is taken away with the old one.
        newest: int = connection.execute("SELECT max(generation) FROM parameter").fetchone()[0] or 0
        versions.set_meta(connection, _GENERATION, max(newest, group.generation) + 1)
        versions.set_meta(connection, _POSITION, 0)
        versions.set_meta(connection, _BEGAN, versions.newest(connection)[0])


def step(group: Group, indexer: Indexer, limit: int) -> tuple[Phase, int]:
    """Do one batch; what comes next, and how far it is in the commit order."""
    connection = group.connection
    target = versions.meta(connection, _GENERATION)
    if target == 0:
        has_more = erase_generations(connection, group.generation, limit)
        return (Phase.CLEANING if has_more else Phase.DONE), 0
    position = versions.meta(connection, _POSITION)
    newest, _ = versions.newest(connection)
    until = min(position + limit, newest)
    builder = RowBuilder(group.names, target)
    for name, seq, body in connection.execute(_CURRENT, (position, until, newest)).fetchall():
        builder.add(name, seq, indexer(resource_json.parse_resource(body)))
    for table, values in builder.tables():
        insert_rows(connection, table, values)
    versions.set_meta(connection, _POSITION, until)
    if until < newest:
        return Phase.FILLING, until
    _switch(group, indexer, target, newest)
    return Phase.CLEANING, until


def _switch(group: Group, indexer: Indexer, target: int, newest: int) -> None:
    """Make the new rows the current ones, in the commit that wrote the last of them."""
    connection = group.connection
    began = versions.meta(connection, _BEGAN)
    erase(group, indexer, target, superseded_since(connection, began))
    versions.set_meta(connection, "generation", target)
    group.generation = target
    # The new generation knows no moment but now: older page links have expired.
    versions.set_meta(connection, "purged", newest)
    versions.set_meta(connection, _GENERATION, 0)
