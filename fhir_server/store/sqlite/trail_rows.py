"""The audit trail's rows: what a group's commit appends, and where the chain ends.

A commit appends sheets and nothing else. Who of the patients is on which sheet is written
for many sheets together, every few thousand records, within the commit that makes them so
many: rows of a few hundred patients side by side cost a fraction of as many apart (ADR 0035).
"""

import sqlite3
from collections.abc import Sequence

from fhir_server.core.security import audit_sheet
from fhir_server.core.security.audit_chain import ChainKeys, ChainLink, chained
from fhir_server.store.trail import TrailEntry

# Records that may wait for their rows: a patient's list is looked for in all of them.
_MOST_WAITING = 8_192


def append(
    connection: sqlite3.Connection, entries: Sequence[TrailEntry], at: int, keys: ChainKeys
) -> None:
    """Write `entries` behind the newest sheet, in the open transaction.

    Raises:
        StoreUnavailable: the chain goes on with a key that is not among `keys`.
    """
    # 'key' stands before 'newest', and only where there was a change of keys.
    *turned, (seq, newest_at, digest, waiting) = connection.execute(
        "SELECT seq, at, digest, waiting FROM trail_end "
        "WHERE name IN ('key', 'newest') ORDER BY name"
    ).fetchall()
    key = keys.of(turned[0][2].decode() if turned else "")
    # A clock that was put back: the order of times is the order of the chain.
    at = max(at, newest_at)
    newest = ChainLink(seq, digest)
    for sheet in audit_sheet.sheets(entries):
        row = chained(newest, at, sheet.text, key)
        newest = ChainLink(row.sequence, row.digest)
        waiting += sheet.records
        connection.execute("INSERT INTO trail (seq, at, text, digest) VALUES (?, ?, ?, ?)", row)
    is_full = waiting >= _MOST_WAITING
    connection.execute(
        "UPDATE trail_end SET seq = ?, at = ?, digest = ?, waiting = ? WHERE name = 'newest'",
        (newest.sequence, at, newest.digest, 0 if is_full else waiting),
    )
    if is_full:
        _list(connection)


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


def _list(connection: sqlite3.Connection) -> None:
    """Write whose lists the sheets are on that have come since this was done last."""
    rows = connection.execute(
        "SELECT seq, text FROM trail WHERE seq > ? ORDER BY seq", (end(connection, "listed")[0],)
    )
    places = [(patient, seq) for seq, text in rows for patient in audit_sheet.patients_of(text)]
    # Side by side where they are kept, each page of the file is changed once.
    places.sort()
    # A process of the release before, which may still be at work, writes its own at once.
    connection.executemany(
        "INSERT OR IGNORE INTO trail_patient (patient, seq) VALUES (?, ?)", places
    )
    connection.execute(
        "UPDATE trail_end SET (seq, at, digest) = "
        "(SELECT seq, at, digest FROM trail_end WHERE name = 'newest') WHERE name = 'listed'"
    )
