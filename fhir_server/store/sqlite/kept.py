"""Kept searches: sealed texts that page links name, until the links have expired."""

import sqlite3


def keep(connection: sqlite3.Connection, name: str, sealed: str, now: int) -> None:
    connection.execute(
        "INSERT INTO kept_search (name, kept_at, sealed) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET kept_at = max(kept_at, excluded.kept_at)",
        (name, now, sealed),
    )


def kept(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT sealed FROM kept_search WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def forget(connection: sqlite3.Connection, before: int) -> None:
    """Drop what was kept before then, in milliseconds since 1970."""
    connection.execute("DELETE FROM kept_search WHERE kept_at < ?", (before,))
