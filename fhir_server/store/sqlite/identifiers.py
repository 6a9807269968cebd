"""Finding current resources by identifier, many in one step."""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Iterator, Sequence

from fhir_server.core.identity import ResourceKey
from fhir_server.store.sqlite.layout import CURRENT, chunks, values_rows
from fhir_server.store.sqlite.names import Names

Identifier = tuple[str | None, str]


def find_current(
    connection: sqlite3.Connection,
    names: Names,
    generation: int,
    resource_type: str,
    wanted: Sequence[Identifier],
) -> Iterator[tuple[Identifier, ResourceKey]]:
    """Pairs of an identifier that was asked for and a current resource that has it."""
    type_id = names.type(resource_type)
    parameter = None if type_id is None else names.parameter(generation, type_id, "identifier")
    if parameter is None:
        return
    asked = frozenset(wanted)
    for part in chunks(list(dict.fromkeys(value for _, value in wanted))):
        # Bound as values: JSON would cut a text at a NUL.
        rows = connection.execute(
            f"WITH wanted (value) AS ({values_rows(len(part), 1)}) "
            "SELECT u.uri, i.value, r.id FROM wanted "
            "CROSS JOIN identifier_entry i ON i.parameter = ? AND i.value = wanted.value "
            "CROSS JOIN version v ON v.seq = i.seq AND v.superseded = ? "
            "CROSS JOIN resource r ON r.key = v.resource "
            "CROSS JOIN uri u ON u.id = i.system",
            (*part, parameter, CURRENT),
        ).fetchall()
        for system, value, resource_id in rows:
            for identifier in ((system, value), (None, value)):
                if identifier in asked:
                    yield identifier, ResourceKey(resource_type, resource_id)
