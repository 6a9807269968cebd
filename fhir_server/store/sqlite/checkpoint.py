"""Moving the write-ahead log into the file, beside the commits.

A checkpoint inside a commit would let every caller of that group wait for the disk. A
thread copies what is committed while others commit. But the log begins anew only after a
copy that nobody's commit overtook: when it has grown long, the committer itself copies
the little that is left, between two groups.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)

# Changed rows, about 16 MiB of log: often enough for short copies, seldom enough that a
# page which many commits change is copied once.
_CHANGES = 20_000
_SECONDS = 5.0
# Pages of log after which the committer helps: 64 MiB.
_TOO_LONG = 16_384


class Checkpointer:
    """Copies the log when it has grown."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connection = connect()
        self._changes = 0
        self._wake = threading.Event()
        self._is_closed = False
        self._is_long = False
        self._thread = threading.Thread(target=self._run, name="sqlite-checkpoint", daemon=True)
        self._thread.start()

    def committed(self, connection: sqlite3.Connection, changes: int) -> None:
        """The committer has changed this many rows and is between two transactions."""
        self._changes += changes
        if self._is_long:
            self._is_long = False
            _copy(connection)
        elif self._changes >= _CHANGES:
            self._changes = 0
            self._wake.set()

    def close(self) -> None:
        """Stop; the last connection to close copies the rest and removes the log."""
        self._is_closed = True
        self._wake.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._is_closed:
            if not self._wake.wait(_SECONDS) and not self._changes:
                continue
            self._wake.clear()
            self._changes = 0
            if not self._is_closed:
                self._is_long = _copy(self._connection) > _TOO_LONG


def _copy(connection: sqlite3.Connection) -> int:
    """Copy what no reader needs any more; how many pages the log has."""
    try:
        pages: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    except sqlite3.Error as error:
        # Nothing is lost: the log stays until a later copy succeeds.
        _log.warning("the log could not be copied: %s", getattr(error, "sqlite_errorname", ""))
        return 0
    return pages
