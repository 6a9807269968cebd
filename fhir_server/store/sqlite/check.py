"""Checking: whether versions, index rows and outbox agree with each other.

Faults name keys, sequences and tables, never what a resource says.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

from fhir_server.core.version import Version, format_instant
from fhir_server.errors import FhirError
from fhir_server.store.checking import Checked, Report
from fhir_server.store.sqlite import ledger, versions
from fhir_server.store.sqlite.layout import (
    COLUMNS,
    CREATE,
    CURRENT,
    DELETE,
    ENTRY_TABLES,
    UPDATE,
    UPDATE_CREATE,
    chunks,
    values_rows,
)
from fhir_server.store.sqlite.names import Cache, Interner
from fhir_server.store.sqlite.rows import RowBuilder
from fhir_server.store.sqlite.transaction import Indexer

_BATCH = 500
# Of one kind; the count goes on.
_SHOWN = 20


class Check(NamedTuple):
    """What was looked at, by kind, and what is wrong."""

    counts: dict[str, int]
    faults: tuple[str, ...]


class _Finder(Interner):
    """Names as a builder of rows wants them, but none is added: LookupError."""

    def _intern(self, name: tuple[Any, ...]) -> int:
        found = self._find(name)
        if found is None:
            raise LookupError
        return found


def check(
    connection: sqlite3.Connection,
    indexer: Indexer,
    report: Report,
    bodies: Sequence[Checked] | None,
) -> Check:
    """Look at everything, on the snapshot of the connection's transaction.

    `bodies` is what was found of them before, on snapshots of their own.
    """
    counts = {"versions": 0, "resources": 0, "current": 0, "index rows": 0, "deliveries": 0}
    faults = [
        *_check_file(connection),
        *_check_order(connection, counts),
        *_check_resources(connection, counts),
    ]
    if bodies is None:
        bodies = [check_bodies(connection, indexer, 1, CURRENT, report)]
    faults += (fault for part in bodies for fault in part.faults)
    faults += _check_entries(connection, bodies, counts)
    faults += _check_outbox(connection, counts)
    return Check(counts, tuple(faults))


def check_bodies(
    connection: sqlite3.Connection, indexer: Indexer, first: int, last: int, report: Report
) -> Checked:
    """Bodies say which version they are, and have the index rows that they give."""
    expected = dict.fromkeys(ENTRY_TABLES, 0)
    faults = tuple(_check_bodies(connection, indexer, (first, last), expected, report))
    return Checked(faults, last, expected, _moment(connection))


def _moment(connection: sqlite3.Connection) -> tuple[int, int]:
    return versions.meta(connection, "generation"), versions.meta(connection, "purged")


def _check_file(connection: sqlite3.Connection) -> Iterator[str]:
    """The file itself: pages, indexes, types of columns."""
    for (found,) in connection.execute("PRAGMA integrity_check(20)"):
        if found != "ok":
            yield f"the file is damaged: {found}"


def _check_order(connection: sqlite3.Connection, counts: dict[str, int]) -> Iterator[str]:
    """The commit order has no gap, and time never goes back in it."""
    expected, before = 1, 0
    for seq, updated in connection.execute("SELECT seq, updated FROM version ORDER BY seq"):
        if seq != expected:
            yield f"the commit order lacks {expected} to {seq - 1}"
        if updated < before:
            yield f"version {seq} of the commit order is older than the one before"
        expected, before = seq + 1, updated
        counts["versions"] += 1


def _check_resources(connection: sqlite3.Connection, counts: dict[str, int]) -> Iterator[str]:
    """Each resource's versions follow each other."""
    rows = connection.execute(
        "SELECT v.resource, t.name, r.id, r.type, v.type, v.version_id, v.seq, v.superseded, "
        "v.interaction FROM version v INDEXED BY version_by_resource "
        "LEFT JOIN resource r ON r.key = v.resource LEFT JOIN type t ON t.id = v.type "
        "ORDER BY v.resource, v.version_id"
    )
    for resource, of_resource in groupby(rows, key=lambda row: row[0]):
        counts["resources"] += 1
        states = [row[1:] for row in of_resource]
        name = f"{states[0][0]}/{states[0][1]}"
        if states[0][1] is None or any(state[2] != state[3] for state in states):
            yield f"resource {resource} is not known by its type and id"
        was_alive, last = False, 0
        for place, (*_, version_id, seq, superseded, interaction) in enumerate(states):
            following = states[place + 1][5] if place + 1 < len(states) else CURRENT
            if version_id != place + 1 or seq <= last:
                yield f"{name} version {version_id} does not follow the version before"
            if superseded != (seq if interaction == DELETE else following):
                yield f"{name} version {version_id} does not say what superseded it"
            if (interaction in (CREATE, UPDATE_CREATE) and was_alive) or (
                interaction == UPDATE and not was_alive
            ):
                yield f"{name} version {version_id} is no {versions.INTERACTIONS[interaction]}"
            was_alive, last = interaction != DELETE, seq
        counts["current"] += was_alive


def _check_bodies(
    connection: sqlite3.Connection,
    indexer: Indexer,
    part: tuple[int, int],
    expected: dict[str, int],
    report: Report,
) -> Iterator[str]:
    for (seq,) in connection.execute(
        "SELECT b.seq FROM body b LEFT JOIN version v ON v.seq = b.seq WHERE b.seq BETWEEN ? AND ? "
        f"AND (v.seq IS NULL OR v.interaction = {DELETE}) LIMIT {_SHOWN}",
        part,
    ):
        yield f"there is a body for {seq} of the commit order, and no such version"
    generation, purged = _moment(connection)
    names = _Finder(connection, Cache())
    rows = connection.execute(
        f"{versions.SELECT_ALL} WHERE v.seq BETWEEN ? AND ? ORDER BY v.seq", part
    )
    while batch := list(islice(rows, _BATCH)):
        builder = RowBuilder(names, generation)
        for *row, superseded in batch:
            version = versions.from_row(row)
            place = f"{version.key} version {version.version_id}"
            if version.body is None:
                if version.interaction != "delete":
                    yield f"{place} has no body"
                continue
            try:
                resource = version.resource()
                if not _is_said(version, resource):
                    yield f"{place} says another id, version or time in its body"
                if superseded > purged:
                    builder.add(version.key.resource_type, version.sequence, indexer(resource))
            except FhirError:
                yield f"{place} cannot be read"
            except LookupError:
                yield f"{place} lacks index rows"
        for table, values in builder.tables():
            expected[table] += len(values) // len(COLUMNS[table])
            for seq in _lacking(connection, table, values):
                yield f"{table} lacks a row of {seq} of the commit order"
        report(len(batch))


def _check_entries(
    connection: sqlite3.Connection, bodies: Sequence[Checked], counts: dict[str, int]
) -> Iterator[str]:
    """There are no more index rows than the bodies give."""
    generation, _ = _moment(connection)
    # Of what was found at another moment, or of what came since, the numbers differ rightly.
    is_comparable = {part.moment for part in bodies} <= {_moment(connection)}
    until = max((part.last for part in bodies), default=0)
    for table in ENTRY_TABLES:
        found, known = connection.execute(
            f"SELECT count(*), coalesce(sum(seq <= ?), 0) FROM {table} WHERE parameter IN "
            "(SELECT id FROM parameter WHERE generation = ?)",
            (until, generation),
        ).fetchone()
        counts["index rows"] += found
        number = sum(part.entries[table] for part in bodies)
        if is_comparable and known > number:
            yield f"{table} has {known - number} rows that no body gives"


def _is_said(version: Version, resource: dict[str, Any]) -> bool:
    meta = resource.get("meta") or {}
    return (
        (resource.get("resourceType"), resource.get("id")) == version.key
        and meta.get("versionId") == str(version.version_id)
        and meta.get("lastUpdated") == format_instant(version.last_updated)
    )


def _lacking(connection: sqlite3.Connection, table: str, values: Sequence[Any]) -> Iterator[int]:
    """The sequences of rows that should be in the table and are not."""
    columns = COLUMNS[table]
    width, at = len(columns), columns.index("seq")
    rows = [tuple(values[i : i + width]) for i in range(0, len(values), width)]
    for part in chunks(rows):
        found = set(
            connection.execute(
                f"SELECT {', '.join(columns)} FROM {table} WHERE ({', '.join(columns)}) IN "
                f"(SELECT * FROM ({values_rows(len(part), width)}))",
                [value for row in part for value in row],
            )
        )
        yield from (row[at] for row in part if row not in found)


def _check_outbox(connection: sqlite3.Connection, counts: dict[str, int]) -> Iterator[str]:
    """Deliveries are of versions that were looked at, and their events end in their state."""
    position = max(ledger.positions(connection).values())
    if position > versions.newest(connection)[0]:
        yield "the outbox is ahead of the commit order"
    rows = connection.execute(
        "SELECT d.id, d.seq, v.resource IS d.resource, s.id IS NOT NULL, d.state, d.owner, "
        "(SELECT e.state FROM delivery_event e WHERE e.delivery = d.id ORDER BY e.id DESC LIMIT 1) "
        "FROM delivery d LEFT JOIN version v ON v.seq = d.seq LEFT JOIN sink s ON s.id = d.sink"
    )
    for number, seq, is_of_resource, has_sink, state, owner, last in rows:
        counts["deliveries"] += 1
        if seq > position:
            yield f"delivery {number} is of a version that the outbox has not reached"
        if not is_of_resource or not has_sink:
            yield f"delivery {number} is of no version, or goes nowhere"
        if (state == 1) != bool(owner):
            yield f"delivery {number} has an owner and is not sent, or the other way round"
        if state != last:
            yield f"delivery {number} is in another state than its last event says"
    counted = "SELECT sink, state, number FROM delivery_count WHERE number <> 0"
    there = "SELECT sink, state, count(*) FROM delivery GROUP BY sink, state"
    for sink, state in connection.execute(
        f"SELECT sink, state FROM (SELECT * FROM ({counted}) EXCEPT SELECT * FROM ({there})) "
        f"UNION SELECT sink, state FROM (SELECT * FROM ({there}) EXCEPT SELECT * FROM ({counted}))"
    ):
        yield f"the count of deliveries of sink {sink} in state {state} is wrong"
