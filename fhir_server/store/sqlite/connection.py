"""Connections to the file: how they are opened, and what their errors mean to a caller."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fhir_server.errors import StoreUnavailable

_STATEMENTS = 512


def open_connection(
    path: Path, *, is_reader: bool, busy_seconds: float, is_volatile: bool = False
) -> sqlite3.Connection:
    """A connection that any one thread at a time may use; transactions are explicit.

    A volatile file is gone with the process, so nothing waits for the disk.

    Raises:
        StoreUnavailable: the file cannot be opened.
    """
    with translated():
        if not is_reader:
            _create_private(path)
        connection = sqlite3.connect(
            path,
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute(f"PRAGMA synchronous = {'OFF' if is_volatile else 'FULL'}")
            connection.execute(f"PRAGMA cache_size = {-16_384 if is_reader else -65_536}")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("PRAGMA trusted_schema = OFF")
            # checkpoint.py moves the log into the file, beside the commits.
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
            if is_reader:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def translated() -> Iterator[None]:
    """Say a driver's error as the store's.

    Raises:
        StoreUnavailable: the file is busy, full, broken or away.
    """
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        raise unavailable(error) from error


def unavailable(error: BaseException) -> StoreUnavailable:
    """What a caller is told; the driver's name for the error, never a value."""
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return StoreUnavailable(f"the store cannot be used now ({name})")


def is_interrupted(error: sqlite3.OperationalError) -> bool:
    """Whether a statement ended because its time was up."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _create_private(path: Path) -> None:
    """Make the file, and its folder, for the server's own user: they hold patients."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Never opens a file that is there: closing it would drop every lock this process has
    # on it, and another process would then take away the log that commits go to.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
