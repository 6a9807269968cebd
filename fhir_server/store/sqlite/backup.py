"""A copy of the file while it is in use: one moment of it, whole, in one file.

The copy is made inside one read transaction, so that writers neither wait for it nor make it
begin again; their log grows until it is done. https://www.sqlite.org/backup.html
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from fhir_server.errors import StoreUnavailable, Unsupported
from fhir_server.store.sqlite import schema, versions
from fhir_server.store.sqlite.connection import open_connection, translated, unavailable

_PAGES_A_STEP = 4_096
_BUSY_SECONDS = 30.0


class Copy(NamedTuple):
    """What a copy holds: everything up to the commit `sequence`."""

    sequence: int
    size: int


def copy(path: Path, target: Path, progress: Callable[[int, int], None]) -> Copy:
    """Copy the store at `path` to `target`, which is there only when it is whole and checked.

    `progress` is told how many pages are done, and of how many.

    Raises:
        FileExistsError: `target` is there already.
        Unsupported: `path` is no store of ours.
        StoreUnavailable: it cannot be read, or the copy is not whole.
        OSError: the copy cannot be written.
    """
    return copy_file(
        path, target, schema.APPLICATION_ID, lambda store: versions.newest(store)[0], progress
    )


def copy_file(
    path: Path,
    target: Path,
    application: int,
    read_moment: Callable[[sqlite3.Connection], int],
    progress: Callable[[int, int], None],
) -> Copy:
    """`copy` of any file of ours, whose moment is what `read_moment` reads there."""
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    if not path.is_file():
        raise StoreUnavailable(f"there is no file {path}")
    part = target.with_name(target.name + ".part")
    with closing(_open(path, application)) as source:
        with translated():
            source.execute("BEGIN")
            # The first read fixes the moment.
            sequence = read_moment(source)
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(sqlite3.connect(part, isolation_level=None)) as copied:
                _copy_pages(source, copied, progress)
                _check(copied, is_whole=read_moment(copied) == sequence)
            _sync(part)
            part.rename(target)
        except sqlite3.Error as error:
            raise unavailable(error) from error
        finally:
            part.unlink(missing_ok=True)
        _sync(target.absolute().parent)
    return Copy(sequence, target.stat().st_size)


def _open(path: Path, application: int) -> sqlite3.Connection:
    source = open_connection(path, is_reader=True, busy_seconds=_BUSY_SECONDS)
    with translated():
        found = source.execute("PRAGMA application_id").fetchone()[0]
    if found != application:
        source.close()
        raise Unsupported(f"{path} is another program's database")
    return source


def _copy_pages(
    source: sqlite3.Connection, copied: sqlite3.Connection, progress: Callable[[int, int], None]
) -> None:
    # Written to the disk once, at the end.
    copied.execute("PRAGMA synchronous = OFF")
    source.backup(
        copied,
        pages=_PAGES_A_STEP,
        progress=lambda _status, remaining, total: progress(total - remaining, total),
    )
    # So that it is one file, with no log beside it, until a server opens it.
    copied.execute("PRAGMA journal_mode = DELETE").fetchone()


def _check(copied: sqlite3.Connection, *, is_whole: bool) -> None:
    found = copied.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok" or not is_whole:
        raise StoreUnavailable("the copy is not whole; the store's own file may be damaged")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
