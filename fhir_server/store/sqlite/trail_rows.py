"""The audit trail's rows: what a group's commit appends, and where the chain ends."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from fhir_server.core.security.audit_chain import GENESIS, ChainLink, chained
from fhir_server.store.sqlite.layout import insert_rows
from fhir_server.store.trail import TrailEntry


def append(
    connection: sqlite3.Connection, entries: Sequence[TrailEntry], at: int, key: bytes
) -> None:
    """Write `entries` behind the newest record, in the open transaction."""
    newest = end(connection, "newest")
    row = connection.execute("SELECT at FROM trail WHERE seq = ?", (newest.sequence,)).fetchone()
    # A clock that was put back: the order of times is the order of the chain.
    at = max(at, row[0]) if row else at
    rows: list[Any] = []
    patients: list[Any] = []
    for text, whose in entries:
        record = chained(newest, at, text, key)
        newest = ChainLink(record.sequence, record.digest)
        rows += record
        for patient in whose:
            patients += (patient, record.sequence)
    insert_rows(connection, "trail", rows)
    insert_rows(connection, "trail_patient", patients)
    set_end(connection, "newest", newest)


def end(connection: sqlite3.Connection, name: str) -> ChainLink:
    found = connection.execute("SELECT seq, digest FROM trail_end WHERE name = ?", (name,))
    row = found.fetchone()
    return GENESIS if row is None else ChainLink(*row)


def set_end(connection: sqlite3.Connection, name: str, link: ChainLink) -> None:
    connection.execute(
        "INSERT INTO trail_end (name, seq, digest) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, digest = excluded.digest",
        (name, *link),
    )
