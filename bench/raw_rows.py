"""The raw rate: the very rows a run stored, inserted again by a bare loop, 500 a commit."""

import sqlite3
import time
from pathlib import Path

BATCH = 500


def raw_seconds(stored: Path, scratch: Path) -> tuple[int, int, float]:
    """Versions, rows in all, and the seconds a bare loop takes to insert them durably.

    The copy has the same tables and indexes and the same durability; each table's rows
    are written with one prepared statement.
    """
    source = sqlite3.connect(f"file:{stored}?mode=ro", uri=True)
    target = sqlite3.connect(scratch, isolation_level=None)
    for pragma in source.execute("PRAGMA page_size").fetchone():
        target.execute(f"PRAGMA page_size={pragma}")
    target.execute("PRAGMA journal_mode=WAL")
    target.execute("PRAGMA synchronous=FULL")
    target.execute("PRAGMA cache_size=-65536")
    for (sql,) in source.execute(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    ).fetchall():
        target.execute(sql)
    tables: dict[str, list[list[tuple[object, ...]]]] = {}
    last = source.execute("SELECT max(seq) FROM version").fetchone()[0]
    names = [r[0] for r in source.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
    for name in names:
        columns = [r[1] for r in source.execute(f"PRAGMA table_info({name})")]
        if "seq" not in columns or name.startswith("sqlite_"):
            continue
        tables[name] = (
            [
                source.execute(
                    f"SELECT * FROM {name} WHERE seq >= ? AND seq < ?", (first, first + BATCH)
                ).fetchall()
                for first in range(1, last + 1, BATCH)
            ]
            if name == "version"
            else _split(source.execute(f"SELECT * FROM {name}"), columns, last)
        )
    rows = sum(len(batch) for batches in tables.values() for batch in batches)
    inserts = {
        name: f"INSERT INTO {name} VALUES ({','.join('?' * len(batches[0][0]))})"
        for name, batches in tables.items()
        if any(batches) and batches[0]
    }
    started = time.perf_counter()
    for number in range(-(-last // BATCH)):
        target.execute("BEGIN IMMEDIATE")
        for name, insert in inserts.items():
            target.executemany(insert, tables[name][number])
        target.execute("COMMIT")
    seconds = time.perf_counter() - started
    source.close()
    target.close()
    return last, rows, seconds


def _split(rows: sqlite3.Cursor, columns: list[str], last: int) -> list[list[tuple[object, ...]]]:
    at = columns.index("seq")
    batches: list[list[tuple[object, ...]]] = [[] for _ in range(-(-last // BATCH))]
    for row in rows:
        batches[(row[at] - 1) // BATCH].append(row)
    return batches
