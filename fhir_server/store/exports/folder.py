"""FolderExportStore: jobs in a small SQLite file, files in folders beside it.

For all processes of one machine. Only the server's user can read any of it. Nothing is made
before there is a first export.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import TypeVar

from fhir_server.errors import NotFound, Unsupported
from fhir_server.store.exports.protocol import JobRecord
from fhir_server.store.sqlite.connection import open_connection, translated

R = TypeVar("R")

_JOBS = "jobs.db"
_BUSY_SECONDS = 5.0
_READ_AT_ONCE = 256 * 1024
# "fhbx": so that nobody's other file is taken for this.
_APPLICATION = 0x66686278
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS job (
  name TEXT PRIMARY KEY, revision INTEGER NOT NULL, text TEXT NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION};
COMMIT;
"""


class FolderExportStore:
    """`folder` None is one that is gone when the store closes."""

    def __init__(self, folder: Path | None) -> None:
        self._is_volatile = folder is None
        self._folder = folder
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None

    def add(self, name: str, text: str) -> None:
        self._run(lambda c: c.execute("INSERT INTO job VALUES (?, 1, ?)", (name, text)))

    def find(self, name: str) -> JobRecord | None:
        if not self._is_there():
            return None
        sql = "SELECT name, revision, text FROM job WHERE name = ?"
        row = self._run(lambda c: c.execute(sql, (name,)).fetchone())
        return None if row is None else JobRecord(*row)

    def jobs(self) -> list[JobRecord]:
        if not self._is_there():
            return []
        sql = "SELECT name, revision, text FROM job ORDER BY name"
        return [JobRecord(*row) for row in self._run(lambda c: c.execute(sql).fetchall())]

    def replace(self, record: JobRecord, text: str) -> JobRecord | None:
        following = record.revision + 1
        sql = "UPDATE job SET revision = ?, text = ? WHERE name = ? AND revision = ?"
        values = (following, text, record.name, record.revision)
        changed = self._run(lambda c: c.execute(sql, values).rowcount)
        return JobRecord(record.name, following, text) if changed else None

    def remove(self, name: str) -> None:
        if not self._is_there():
            return
        # First the files: who is cut off in between is followed by another.
        with translated():
            shutil.rmtree(self._place(name), ignore_errors=True)
        self._run(lambda c: c.execute("DELETE FROM job WHERE name = ?", (name,)))

    def append(self, name: str, file: str, number: int, portion: bytes) -> None:
        with translated():
            place = self._place(name)
            if number == 0:
                place.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if number == 0 else 0)
            with os.fdopen(os.open(place / file, flags, 0o600), "ab") as opened:
                opened.write(portion)

    def finish(self, name: str, file: str) -> None:
        with translated():
            for path in (self._place(name) / file, self._place(name), self._place("")):
                opened = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(opened)
                finally:
                    os.close(opened)

    def drop(self, name: str, file: str) -> None:
        with translated():
            (self._place(name) / file).unlink(missing_ok=True)

    def portions(self, name: str, file: str) -> Iterator[bytes]:
        try:
            with (self._place(name) / file).open("rb") as opened:
                while portion := opened.read(_READ_AT_ONCE):
                    yield portion
        except FileNotFoundError:
            raise NotFound("there is no such file") from None

    def strays(self) -> list[str]:
        if not self._is_there():
            return []
        with translated():
            # First the folders: a job is there before its files are.
            found = [each.name for each in self._place("").iterdir() if each.is_dir()]
        known = {record.name for record in self.jobs()}
        return [name for name in found if name not in known]

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        if self._is_volatile and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _place(self, name: str) -> Path:
        if self._folder is None:
            raise NotFound("there is no such export")
        return self._folder / name

    def _is_there(self) -> bool:
        return self._folder is not None and (self._folder / _JOBS).exists()

    def _run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """`work` of one statement, which is a transaction by itself."""
        with self._lock, translated():
            if self._connection is None:
                self._connection = self._open()
            return work(self._connection)

    def _open(self) -> sqlite3.Connection:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="fhir-server-exports-"))
        connection = open_connection(
            self._folder / _JOBS, is_reader=False, busy_seconds=_BUSY_SECONDS
        )
        try:
            # Nobody else moves this file's log.
            connection.execute("PRAGMA wal_autocheckpoint = 200").fetchone()
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            if application not in (0, _APPLICATION):
                raise Unsupported("the folder of exports holds another program's file")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection
