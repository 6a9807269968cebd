"""The audit trail's rows: what a group's commit appends, and where the chain ends."""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any

from fhir_server.core.security.audit_chain import ChainKeys, ChainLink, chained
from fhir_server.store.trail import TrailEntry

# A commit of reads is small and waited for: few statements, each prepared for its length.
_AT_ONCE = 64


def append(
    connection: sqlite3.Connection, entries: Sequence[TrailEntry], at: int, keys: ChainKeys
) -> None:
    """Write `entries` behind the newest record, in the open transaction.

    Raises:
        StoreUnavailable: the chain goes on with a key that is not among `keys`.
    """
    # 'key' stands before 'newest', and only where there was a change of keys.
    *turned, (seq, newest_at, digest) = connection.execute(
        "SELECT seq, at, digest FROM trail_end WHERE name IN ('key', 'newest') ORDER BY name"
    ).fetchall()
    key = keys.of(turned[0][2].decode() if turned else "")
    # A clock that was put back: the order of times is the order of the chain.
    at = max(at, newest_at)
    newest = ChainLink(seq, digest)
    rows: list[tuple[Any, ...]] = []
    places: list[tuple[Any, ...]] = []
    for text, patients in entries:
        record = chained(newest, at, text, key)
        newest = ChainLink(record.sequence, record.digest)
        rows.append(record)
        places += [(patient, record.sequence) for patient in patients]
    _insert(connection, "trail (seq, at, text, digest)", 4, rows)
    _insert(connection, "trail_patient (patient, seq)", 2, places)
    connection.execute(
        "UPDATE trail_end SET seq = ?, at = ?, digest = ? WHERE name = 'newest'",
        (newest.sequence, at, newest.digest),
    )


def current_key(connection: sqlite3.Connection) -> str:
    """The id of the key that the chain goes on with."""
    row = connection.execute("SELECT digest FROM trail_end WHERE name = 'key'").fetchone()
    return "" if row is None else str(row[0].decode())


def turn_key(connection: sqlite3.Connection, key_id: str) -> None:
    """The chain goes on with another key."""
    connection.execute(
        "INSERT INTO trail_end (name, seq, at, digest) VALUES ('key', 0, 0, ?) "
        "ON CONFLICT (name) DO UPDATE SET digest = excluded.digest",
        (key_id.encode(),),
    )


def end(connection: sqlite3.Connection, name: str) -> ChainLink:
    found = connection.execute("SELECT seq, digest FROM trail_end WHERE name = ?", (name,))
    return ChainLink(*found.fetchone())


def _insert(
    connection: sqlite3.Connection, into: str, width: int, rows: Sequence[tuple[Any, ...]]
) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        values = [value for row in part for value in row]
        connection.execute(_statement(into, width, len(part)), values)


@cache
def _statement(into: str, width: int, rows: int) -> str:
    row = f"({','.join('?' * width)})"
    return f"INSERT INTO {into} VALUES {','.join([row] * rows)}"
