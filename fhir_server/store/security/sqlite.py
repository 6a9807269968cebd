"""SqliteSecurityStore: a file of its own that only the server's user can read."""

import json
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TypeVar

from fhir_server.errors import Unsupported
from fhir_server.store.security.protocol import Change, Document, Registration
from fhir_server.store.sqlite.backup import Copy, copy_file
from fhir_server.store.sqlite.connection import open_connection, translated

R = TypeVar("R")

_SCHEMA_VERSION = 1
_BUSY_SECONDS = 5.0
# "fhsc": so that nobody's other file is taken for this.
_APPLICATION = 0x66687363

_SCHEMA = """
CREATE TABLE IF NOT EXISTS registration (
  kind TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passing (
  kind TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS passing_until ON passing (until);
CREATE TABLE IF NOT EXISTS revision (number INTEGER NOT NULL);
INSERT INTO revision SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM revision);
"""


class SqliteSecurityStore:
    """`path` None is the memory of this process."""

    is_near = True

    def __init__(self, path: Path | None, now: Callable[[], datetime]) -> None:
        """Raises `StoreUnavailable`, or `Unsupported` for another program's file."""
        self._now = now
        self._writing = Lock()
        self._reading = Lock()
        if path is None:
            with translated():
                self._writer = sqlite3.connect(
                    ":memory:", isolation_level=None, check_same_thread=False
                )
            self._reader, self._reading = self._writer, self._writing
        else:
            self._writer = open_connection(path, is_reader=False, busy_seconds=_BUSY_SECONDS)
            # Nobody else moves this file's log.
            self._writer.execute("PRAGMA wal_autocheckpoint = 200").fetchone()
        try:
            self._prepare()
            if path is not None:
                self._reader = open_connection(path, is_reader=True, busy_seconds=_BUSY_SECONDS)
        except BaseException:
            self._writer.close()
            raise

    def revision(self) -> int:
        with self._reading, translated():
            found: int = self._reader.execute("SELECT number FROM revision").fetchone()[0]
        return found

    def find(self, kind: str, name: str) -> Document | None:
        sql = "SELECT document FROM registration WHERE kind = ? AND name = ?"
        return self._read(sql, (kind, name))

    def list(self, kind: str) -> list[Registration]:
        sql = "SELECT name, document FROM registration WHERE kind = ? ORDER BY name"
        with self._reading, translated():
            rows = self._reader.execute(sql, (kind,)).fetchall()
        return [Registration(name, json.loads(document)) for name, document in rows]

    def change(self, kind: str, name: str, decide: Change) -> Document | None:
        def write(connection: sqlite3.Connection) -> Document | None:
            key = (kind, name)
            row = connection.execute(
                "SELECT document FROM registration WHERE kind = ? AND name = ?", key
            ).fetchone()
            made = decide(None if row is None else json.loads(row[0]))
            if made is None:
                connection.execute("DELETE FROM registration WHERE kind = ? AND name = ?", key)
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO registration VALUES (?, ?, ?)", (*key, _text(made))
                )
            connection.execute("UPDATE revision SET number = number + 1")
            return made

        return self._write(write)

    def keep(self, kind: str, name: str, document: Document, until: datetime) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM passing WHERE until <= ?", (self._moment(),))
            done = connection.execute(
                "INSERT OR IGNORE INTO passing VALUES (?, ?, ?, ?)",
                (kind, name, _text(document), _milliseconds(until)),
            )
            return done.rowcount == 1

        return self._write(write)

    def look(self, kind: str, name: str) -> Document | None:
        sql = "SELECT document FROM passing WHERE kind = ? AND name = ? AND until > ?"
        return self._read(sql, (kind, name, self._moment()))

    def amend(self, kind: str, name: str, decide: Change) -> Document | None:
        def write(connection: sqlite3.Connection) -> Document | None:
            row = connection.execute(
                "SELECT document FROM passing WHERE kind = ? AND name = ? AND until > ?",
                (kind, name, self._moment()),
            ).fetchone()
            made = decide(None if row is None else json.loads(row[0]))
            if row is None:
                return None
            if made is None:
                connection.execute("DELETE FROM passing WHERE kind = ? AND name = ?", (kind, name))
            else:
                connection.execute(
                    "UPDATE passing SET document = ? WHERE kind = ? AND name = ?",
                    (_text(made), kind, name),
                )
            return made

        return self._write(write)

    def close(self) -> None:
        self._reader.close()
        if self._writer is not self._reader:
            self._writer.close()

    def _read(self, sql: str, values: tuple[str | int, ...]) -> Document | None:
        with self._reading, translated():
            row = self._reader.execute(sql, values).fetchone()
        if row is None:
            return None
        document: Document = json.loads(row[0])
        return document

    def _write(self, write: Callable[[sqlite3.Connection], R]) -> R:
        with self._writing, translated():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = write(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            return result

    def _prepare(self) -> None:
        with translated():
            application = self._writer.execute("PRAGMA application_id").fetchone()[0]
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if application not in (0, _APPLICATION) or version > _SCHEMA_VERSION:
                raise Unsupported("the security store is a newer release's, or no such store")
            if version == 0 and self._writer.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise Unsupported("the file is no security store")
            self._writer.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {_APPLICATION};"
                f"PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
            )

    def _moment(self) -> int:
        return _milliseconds(self._now())


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1_000)


def _text(document: Document) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def copy_security(path: Path, target: Path) -> Copy:
    """Copy the file at `path` as `store.sqlite.backup.copy` does; its moment is the revision.

    Raises as that does.
    """

    def read_revision(connection: sqlite3.Connection) -> int:
        found: int = connection.execute("SELECT number FROM revision").fetchone()[0]
        return found

    return copy_file(path, target, _APPLICATION, read_revision, lambda _done, _total: None)
