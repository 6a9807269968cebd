"""Reindexing: new index rows beside those that are searched, then one switch.

Rows of a new generation bear new parameter ids. Steps of it run between other commits,
are resumed after a crash, and nobody's search sees them until the last one makes them
current. With the rows the definitions change that they were made by: every process asks for
those of the generation that it finds.
"""

from collections.abc import Sequence
from enum import Enum

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.store.sqlite import definitions, versions
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


def begin(group: Group, live: Sequence[Resource] | None = None) -> None:
    """Start anew, or go on with one that was interrupted if it is of the same definitions.

    `live` are the SearchParameter resources of the new generation, by default the old one's.
    """
    connection = group.connection
    target = versions.meta(connection, _GENERATION)
    if target and (live is None or _same(definitions.read(connection, target), live)):
        return
    if live is None:
        live = definitions.read(connection, group.generation)
    # What an abandoned generation left is taken away with the old one.
    newest: int = connection.execute("SELECT max(generation) FROM parameter").fetchone()[0] or 0
    target = max(newest, target, group.generation) + 1
    definitions.write(connection, target, live)
    versions.set_meta(connection, _GENERATION, target)
    versions.set_meta(connection, _POSITION, 0)
    versions.set_meta(connection, _BEGAN, versions.newest(connection)[0])


def _same(left: Sequence[Resource], right: Sequence[Resource]) -> bool:
    return [*map(resource_json.format_sorted, left)] == [*map(resource_json.format_sorted, right)]


def step(group: Group, limit: int) -> tuple[Phase, int]:
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
    indexer = group.shared.definitions.of(connection, target).indexer
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
