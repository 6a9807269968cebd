"""The raw rate of SQLite: the very rows a run stored, inserted again by a bare loop."""

import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

BATCH = 500


class Raw(NamedTuple):
    """Versions stored, their rows in all, and the seconds that a bare loop took.

    `cpu` is the processor time of the loop and its database, where that is told.
    """

    versions: int
    rows: int
    seconds: float
    cpu: float | None = None

    @property
    def per_second(self) -> float:
        return self.versions / self.seconds


def newest(stored: Path) -> int:
    """Where the store's commit order ends."""
    with sqlite3.connect(f"file:{stored}?mode=ro", uri=True) as source:
        return int(source.execute("SELECT coalesce(max(seq), 0) FROM version").fetchone()[0])


def insert_again(stored: Path, after: int, scratch: Path) -> Raw:
    """Insert the rows of the versions behind `after` into a new file, 500 versions a commit.

    It has the same tables and indexes and the same durability; each table's rows are written
    with one prepared statement. They are read before the clock runs.
    """
    source = sqlite3.connect(f"file:{stored}?mode=ro", uri=True)
    target = sqlite3.connect(scratch, isolation_level=None)
    try:
        _prepare(source, target)
        return _insert(target, _batches(source, after))
    finally:
        source.close()
        target.close()


def _prepare(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    page_size = source.execute("PRAGMA page_size").fetchone()[0]
    target.execute(f"PRAGMA page_size={page_size}")
    target.execute("PRAGMA journal_mode=WAL")
    target.execute("PRAGMA synchronous=FULL")
    target.execute("PRAGMA cache_size=-65536")
    made = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    for (sql,) in source.execute(made).fetchall():
        target.execute(sql)


Rows = list[tuple[object, ...]]


def _batches(source: sqlite3.Connection, after: int) -> dict[str, list[Rows]]:
    """By the statement that inserts them, the rows of each 500 versions."""
    last = source.execute("SELECT max(seq) FROM version").fetchone()[0]
    number = -(-(last - after) // BATCH)
    batches: dict[str, list[Rows]] = {}
    names = [r[0] for r in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for name in names:
        columns = [r[1] for r in source.execute(f"PRAGMA table_info({name})")]
        # The audit trail has an order of its own.
        if "seq" not in columns or name.startswith(("sqlite_", "trail")):
            continue
        split: list[Rows] = [[] for _ in range(number)]
        at = columns.index("seq")
        for row in source.execute(f"SELECT * FROM {name} WHERE seq > ?", (after,)):
            split[(row[at] - after - 1) // BATCH].append(row)
        if any(split):
            batches[f"INSERT INTO {name} VALUES ({','.join('?' * len(columns))})"] = split
    return batches


def _insert(target: sqlite3.Connection, batches: dict[str, list[Rows]]) -> Raw:
    versions = next(rows for insert, rows in batches.items() if " version " in insert)
    started = time.perf_counter()
    for number in range(len(versions)):
        target.execute("BEGIN IMMEDIATE")
        for insert, split in batches.items():
            target.executemany(insert, split[number])
        target.execute("COMMIT")
    seconds = time.perf_counter() - started
    rows = sum(len(batch) for split in batches.values() for batch in split)
    return Raw(sum(map(len, versions)), rows, seconds)
