"""Writing puts: identities, versions, bodies and index rows, each table in bulk."""

# ruff: noqa: S608 - put together from constants; every value is bound

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.version import Version
from fhir_server.errors import VersionConflict
from fhir_server.store.sqlite.layout import (
    CURRENT,
    DELETE,
    chunks,
    insert_rows,
    values_rows,
)
from fhir_server.store.sqlite.names import Interner
from fhir_server.store.sqlite.rows import RowBuilder
from fhir_server.store.sqlite.versions import INTERACTIONS, milliseconds

_INTERACTION = {name: number for number, name in enumerate(INTERACTIONS)}


class Put(NamedTuple):
    """A version with its sequence, and what it says to the index."""

    version: Version
    entries: IndexEntries


class _State(NamedTuple):
    """What is stored of an identity; `seq` is 0 where no version is."""

    key: int
    seq: int = 0
    version_id: int = 0
    is_deleted: bool = False


def write(
    connection: sqlite3.Connection, names: Interner, generation: int, puts: Sequence[Put]
) -> None:
    """Write `puts`, which are in the order of their sequences, in the open transaction.

    Raises:
        VersionConflict: a version does not follow the one that is stored.
    """
    types = {
        name: names.intern_type(name) for name in {put.version.key.resource_type for put in puts}
    }
    identities = [
        (types[name], resource_id) for (name, resource_id), *_ in (put.version for put in puts)
    ]
    states = _states(connection, names, puts, identities)
    superseded: dict[int, int] = {}
    for put, identity in zip(puts, identities, strict=True):
        version = put.version
        state = states[identity]
        if version.version_id != state.version_id + 1:
            raise VersionConflict(f"{version.key} is at version {state.version_id} already")
        if state.seq and not state.is_deleted:
            superseded[state.seq] = version.sequence
        states[identity] = _State(
            state.key, version.sequence, version.version_id, version.is_deletion
        )
    first = puts[0].version.sequence
    # Mostly the time of the transaction, which all of them bear; not what is restored.
    moment = puts[0].version.last_updated
    updated = milliseconds(moment)
    rows: list[int | str] = []
    bodies: list[int | bytes] = []
    builder = RowBuilder(names, generation)
    for put, identity in zip(puts, identities, strict=True):
        key, version_id, last_updated, interaction, body, seq = put.version
        if last_updated is not moment:
            moment, updated = last_updated, milliseconds(last_updated)
        if body is None:
            # Superseded at birth: no search ever sees a deletion.
            until = seq
        else:
            until = superseded.pop(seq, CURRENT)
            bodies += (seq, body)
            builder.add(key.resource_type, seq, put.entries)
        rows += (
            seq,
            states[identity].key,
            identity[0],
            version_id,
            updated,
            until,
            _INTERACTION[interaction],
        )
    if superseded:
        assert max(superseded) < first
        connection.execute(
            "UPDATE version SET superseded = j.value FROM json_each(?) j "
            "WHERE version.seq = CAST(j.key AS INTEGER)",
            (json.dumps(superseded),),
        )
    insert_rows(connection, "version", rows)
    insert_rows(connection, "body", bodies)
    for table, values in builder.tables():
        insert_rows(connection, table, values)


def _states(
    connection: sqlite3.Connection,
    names: Interner,
    puts: Sequence[Put],
    identities: Sequence[tuple[int, str]],
) -> dict[tuple[int, str], _State]:
    """What is stored of each identity that is put; new ones get a key.

    The identities that the puts refer to are made known to `names` on the way.
    """
    wanted = list(dict.fromkeys(identities))
    found: dict[tuple[int, str], _State] = {}
    for part in chunks(wanted):
        stored = connection.execute(
            f"WITH wanted (type, id) AS ({values_rows(len(part), 2)}) "
            "SELECT r.type, r.id, r.key, v.seq, v.version_id, v.interaction FROM wanted "
            "CROSS JOIN resource r ON r.type = wanted.type AND r.id = wanted.id "
            "LEFT JOIN version v ON v.resource = r.key AND v.version_id = "
            "(SELECT max(n.version_id) FROM version n WHERE n.resource = r.key)",
            [value for identity in part for value in identity],
        ).fetchall()
        for type_id, resource_id, key, seq, version_id, interaction in stored:
            found[type_id, resource_id] = _State(
                key, seq or 0, version_id or 0, interaction == DELETE
            )
    targets = _targets(names, puts)
    unknown = [identity for identity in targets if identity not in found]
    known = names.resources(unknown)
    new = dict.fromkeys(identity for identity in wanted if identity not in found)
    new.update((identity, None) for identity in unknown if identity not in known)
    if new:
        newest: int = connection.execute("SELECT coalesce(max(key), 0) FROM resource").fetchone()[0]
        rows: list[int | str] = []
        for key, identity in enumerate(new, newest + 1):
            found[identity] = _State(key)
            rows += (key, *identity)
        insert_rows(connection, "resource", rows)
    for identity in targets:
        if identity in found:
            names.know_resource(identity, found[identity].key)
    return found


def _targets(names: Interner, puts: Sequence[Put]) -> list[tuple[int, str]]:
    """The identities that are referred to, in an order that does not change."""
    referred = {
        entry[1:3] for put in puts for entry in put.entries.references if entry.resource_type
    }
    types = {name: names.intern_type(name) for name in sorted({name for name, _ in referred})}
    return [(types[name], resource_id) for name, resource_id in sorted(referred)]
