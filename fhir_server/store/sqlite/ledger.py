"""Deliveries as rows: plain functions of a connection, for the outbox and for checks.

Whoever changes something runs inside a commit. Times are milliseconds since 1970.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.store.protocol import Delivery, DeliveryEvent, DeliveryState, Routed
from fhir_server.store.sqlite import receipts, versions
from fhir_server.store.sqlite.layout import insert_rows
from fhir_server.store.sqlite.versions import instant

STATES = tuple(DeliveryState)
QUEUED, SENT, ACCEPTED, PARKED, SUPERSEDED, WITHHELD, REJECTED, REGISTERED = range(8)

_SELECT = """SELECT d.id, s.name, d.seq, t.name, r.id, v.version_id, d."group", d.state,
    d.attempts, d.due, d.queued_at, d.changed_at, d.reason, d.receipt
FROM delivery d
CROSS JOIN sink s ON s.id = d.sink
CROSS JOIN version v ON v.seq = d.seq
CROSS JOIN resource r ON r.key = d.resource
CROSS JOIN type t ON t.id = r.type"""

# Behind every name that begins with the same characters.
_LAST_CHARACTER = "\U0010ffff"

_PATIENT = (
    "(SELECT key FROM resource WHERE type = (SELECT id FROM type WHERE name = 'Patient') "
    "AND id = %s)"
)

# No earlier version of the same resource is on its way to the same sink.
_IN_ORDER = """NOT EXISTS (
    SELECT 1 FROM delivery e WHERE e.sink = d.sink AND e.resource = d.resource
    AND e.seq < d.seq AND e.state < 2)"""


def state_number(state: DeliveryState) -> int:
    return STATES.index(state)


def from_row(row: Sequence[Any]) -> Delivery:
    number, sink, seq, resource_type, resource_id, version_id, group, state, attempts, *rest = row
    due, queued_at, changed_at, reason, receipt = rest
    return Delivery(
        number,
        sink,
        seq,
        ResourceKey(resource_type, resource_id),
        version_id,
        group,
        STATES[state],
        attempts,
        instant(due),
        instant(queued_at),
        instant(changed_at),
        reason,
        receipt,
    )


_POSITION = "outbox_position"


def position(connection: sqlite3.Connection, kind: str) -> int:
    """The sequence up to which deliveries of a kind of sinks were made."""
    found = positions(connection)
    return found.get(kind, found[""])


def positions(connection: sqlite3.Connection) -> dict[str, int]:
    """How far each kind of sinks is; "" is where a new one begins."""
    rows = connection.execute(
        "SELECT name, value FROM meta WHERE name = ? OR name >= ? AND name < ?",
        (_POSITION, f"{_POSITION}:", f"{_POSITION};"),
    ).fetchall()
    return {name.partition(":")[2]: int(value) for name, value in rows}


def move(connection: sqlite3.Connection, kind: str, sequence: int) -> None:
    """All up to `sequence` was looked at for this kind of sinks."""
    versions.set_meta(connection, f"{_POSITION}:{kind}" if kind else _POSITION, sequence)


def fan_out(
    connection: sqlite3.Connection,
    now: int,
    kind: str,
    expected: int,
    routed: Sequence[tuple[Version, Sequence[Routed]]],
) -> bool:
    """Make deliveries of versions and go on behind them; False if another has done so."""
    if position(connection, kind) != expected:
        return False
    move(connection, kind, routed[-1][0].sequence)
    sinks = {each.sink: _intern_sink(connection, each.sink) for _, w in routed for each in w}
    before: int = connection.execute("SELECT coalesce(max(id), 0) FROM delivery").fetchone()[0]
    rows = [
        (sinks[each.sink], version.sequence, each.group, now, each.patient.partition("/")[2])
        for version, wanted in routed
        for each in wanted
    ]
    connection.execute(
        'INSERT INTO delivery (sink, seq, resource, "group", state, attempts, due, queued_at, '
        "changed_at, owner, reason, receipt, patient) "
        "SELECT j.value ->> 0, j.value ->> 1, v.resource, j.value ->> 2, 0, 0, j.value ->> 3, "
        f"j.value ->> 3, j.value ->> 3, '', '', '', {_PATIENT % 'j.value ->> 4'} "
        "FROM json_each(?) j CROSS JOIN version v ON v.seq = j.value ->> 1 ORDER BY j.key",
        (json.dumps(rows),),
    )
    _note(connection, now, _ids(connection, "id > ?", (before,)), QUEUED, "")
    return True


def due_group(connection: sqlite3.Connection, now: int, sink: str) -> tuple[int, str] | None:
    """The sink's id and the group of its first delivery that may be claimed."""
    row = connection.execute(
        'SELECT d.sink, d."group" FROM sink s '
        "CROSS JOIN delivery d INDEXED BY delivery_due ON d.sink = s.id "
        f"WHERE s.name = ? AND d.state < 2 AND d.due <= ? AND {_IN_ORDER} "
        "ORDER BY d.due, d.id LIMIT 1",
        (sink, now),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def claim(
    connection: sqlite3.Connection, now: int, sink: str, owner: str, lease: int, limit: int
) -> tuple[Delivery, ...]:
    """Take deliveries of one group; their state and lease say so at once."""
    found = due_group(connection, now, sink)
    if found is None:
        return ()
    ids = _ids(
        connection,
        'd.sink = ? AND d."group" = ? AND d.state < 2 AND d.due <= ? '
        f"AND {_IN_ORDER} ORDER BY d.seq LIMIT ?",
        (*found, now, limit),
    )
    connection.execute(
        "UPDATE delivery SET state = 1, attempts = attempts + 1, due = ?, owner = ?, "
        "changed_at = ? WHERE id IN (SELECT value FROM json_each(?))",
        (now + lease, owner, now, json.dumps(ids)),
    )
    _note(connection, now, ids, SENT, owner)
    return _load(connection, ids)


def settle(
    connection: sqlite3.Connection,
    now: int,
    ids: Iterable[int],
    owner: str,
    state: int,
    due: int,
    reason: str,
    receipt: str,
) -> None:
    """Say what became of what `owner` has claimed; what another has taken over stays."""
    held = _ids(
        connection,
        "d.id IN (SELECT value FROM json_each(?)) AND d.state = 1 AND d.owner = ?",
        (json.dumps(list(ids)), owner),
    )
    connection.execute(
        "UPDATE delivery SET state = ?, due = ?, changed_at = ?, owner = '', reason = ?, "
        "receipt = ? WHERE id IN (SELECT value FROM json_each(?))",
        (state, due, now, reason, receipt, json.dumps(held)),
    )
    detail = receipt if state == ACCEPTED else reason
    _note(connection, now, held, state, detail)
    if state != QUEUED:
        _write_receipts(connection, now, held, state, detail)


def conclude(
    connection: sqlite3.Connection, now: int, ids: Iterable[int], state: int, detail: str
) -> int:
    """Say what the receiver confirmed or refused after it had accepted; of how many."""
    accepted = _ids(
        connection,
        f"d.id IN (SELECT value FROM json_each(?)) AND d.state = {ACCEPTED}",
        (json.dumps(list(ids)),),
    )
    column = "reason" if state == REJECTED else "receipt"
    connection.execute(
        f"UPDATE delivery SET state = ?, changed_at = ?, {column} = ? "
        "WHERE id IN (SELECT value FROM json_each(?))",
        (state, now, detail, json.dumps(accepted)),
    )
    _note(connection, now, accepted, state, detail)
    _write_receipts(connection, now, accepted, state, detail)
    return len(accepted)


def renew(connection: sqlite3.Connection, ids: Iterable[int], owner: str, until: int) -> None:
    """Put off the end of the lease of what `owner` still holds."""
    connection.execute(
        "UPDATE delivery SET due = ? WHERE state = 1 AND owner = ? "
        "AND id IN (SELECT value FROM json_each(?))",
        (until, owner, json.dumps(list(ids))),
    )


def oldest_open(connection: sqlite3.Connection, sink: str) -> Delivery | None:
    """The first in commit order that is queued or sent."""
    row = connection.execute(
        f"{_SELECT} WHERE d.id = (SELECT o.id FROM delivery o INDEXED BY delivery_due "
        "WHERE o.sink = (SELECT id FROM sink WHERE name = ?) AND o.state < 2 "
        "ORDER BY o.seq LIMIT 1)",
        (sink,),
    ).fetchone()
    return None if row is None else from_row(row)


def state_of(connection: sqlite3.Connection, sink: str, sequence: int) -> DeliveryState | None:
    row = connection.execute(
        "SELECT state FROM delivery WHERE sink = (SELECT id FROM sink WHERE name = ?) "
        "AND resource = (SELECT resource FROM version WHERE seq = ?) AND seq = ?",
        (sink, sequence, sequence),
    ).fetchone()
    return None if row is None else STATES[row[0]]


def retry(connection: sqlite3.Connection, now: int, ids: Iterable[int]) -> int:
    """Queue stopped deliveries again; how many. Those a newer version overtook are superseded."""
    parked = _ids(
        connection,
        "d.id IN (SELECT value FROM json_each(?)) AND d.state IN (3, 5, 6)",
        (json.dumps(list(ids)),),
    )
    overtaken = _ids(
        connection,
        "d.id IN (SELECT value FROM json_each(?)) AND EXISTS (SELECT 1 FROM delivery e "
        "WHERE e.sink = d.sink AND e.resource = d.resource AND e.seq > d.seq "
        "AND e.state IN (1, 2, 7))",
        (json.dumps(parked),),
    )
    lost = frozenset(overtaken)
    queued = [number for number in parked if number not in lost]
    for chosen, state, detail in (
        (overtaken, SUPERSEDED, "a newer version went out before"),
        (queued, QUEUED, "queued again"),
    ):
        connection.execute(
            "UPDATE delivery SET state = ?, due = ?, changed_at = ?, owner = '' "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (state, now, now, json.dumps(chosen)),
        )
        _note(connection, now, chosen, state, detail)
        _write_receipts(connection, now, chosen, state, detail)
    return len(queued)


def find(
    connection: sqlite3.Connection,
    sink: str | None,
    states: Sequence[DeliveryState],
    limit: int,
    after: int,
    patient: ResourceKey | None,
    since: int | None,
) -> tuple[Delivery, ...]:
    """Deliveries by id."""
    where = "d.id > ?"
    values: list[Any] = [after]
    if patient is not None:
        where += f" AND d.patient = {_PATIENT % '?'}"
        values.append(patient.resource_id)
    if since is not None:
        where += " AND d.queued_at >= ?"
        values.append(since)
    if sink is not None:
        row = connection.execute("SELECT id FROM sink WHERE name = ?", (sink,)).fetchone()
        if row is None:
            return ()
        where += " AND d.sink = ?"
        values.append(row[0])
    if states:
        where += f" AND d.state IN ({','.join('?' * len(states))})"
        values += map(state_number, states)
    rows = connection.execute(
        f"{_SELECT} WHERE {where} ORDER BY d.id LIMIT ?", (*values, limit)
    ).fetchall()
    return tuple(map(from_row, rows))


def waiting(connection: sqlite3.Connection, now: int, prefix: str) -> tuple[str, ...]:
    """Sinks by the beginning of their name that have a delivery due."""
    rows = connection.execute(
        "SELECT s.name FROM sink s WHERE s.name >= ? AND s.name < ? AND EXISTS ("
        "SELECT 1 FROM delivery d INDEXED BY delivery_due "
        "WHERE d.sink = s.id AND d.state < 2 AND d.due <= ?) ORDER BY s.name",
        (prefix, prefix + _LAST_CHARACTER, now),
    ).fetchall()
    return tuple(row[0] for row in rows)


def made(connection: sqlite3.Connection, sink: str, after: int, up_to: int | None) -> int:
    """How many deliveries of `sink` were made, by the sequences of their versions."""
    until = versions.newest(connection)[0] if up_to is None else up_to
    found: int = connection.execute(
        "SELECT count(*) FROM delivery d WHERE d.sink = (SELECT id FROM sink WHERE name = ?) "
        "AND d.seq > ? AND d.seq <= ?",
        (sink, after, until),
    ).fetchone()[0]
    return found


def numbered(
    connection: sqlite3.Connection, sink: str, first: int, limit: int
) -> tuple[Delivery, ...]:
    """Deliveries of `sink` in commit order from the `first`th."""
    ids = _ids(
        connection,
        "d.sink = (SELECT id FROM sink WHERE name = ?) ORDER BY d.seq LIMIT ? OFFSET ?",
        (sink, limit, first - 1),
    )
    return _load(connection, ids)


def show(
    connection: sqlite3.Connection, number: int
) -> tuple[Delivery, tuple[DeliveryEvent, ...]] | None:
    found = _load(connection, [number])
    if not found:
        return None
    events = connection.execute(
        "SELECT at, state, detail FROM delivery_event WHERE delivery = ? ORDER BY id", (number,)
    ).fetchall()
    return found[0], tuple(
        DeliveryEvent(instant(at), STATES[state], detail) for at, state, detail in events
    )


def _load(connection: sqlite3.Connection, ids: Sequence[int]) -> tuple[Delivery, ...]:
    rows = connection.execute(
        f"{_SELECT} WHERE d.id IN (SELECT value FROM json_each(?)) ORDER BY d.seq",
        (json.dumps(ids),),
    ).fetchall()
    return tuple(map(from_row, rows))


def _ids(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[int]:
    rows = connection.execute(f"SELECT d.id FROM delivery d WHERE {where}", values).fetchall()
    return [row[0] for row in rows]


def _write_receipts(
    connection: sqlite3.Connection, now: int, ids: Sequence[int], state: int, detail: str
) -> None:
    for sink, found in groupby(
        sorted(_load(connection, ids), key=lambda d: (d.sink, d.sequence)), key=lambda d: d.sink
    ):
        receipts.write(connection, sink, now, STATES[state], detail, tuple(found))


def _note(
    connection: sqlite3.Connection, now: int, ids: Iterable[int], state: int, detail: str
) -> None:
    insert_rows(
        connection,
        "delivery_event",
        [value for number in ids for value in (number, now, state, detail)],
    )


def _intern_sink(connection: sqlite3.Connection, name: str) -> int:
    connection.execute("INSERT OR IGNORE INTO sink (name) VALUES (?)", (name,))
    found: int = connection.execute("SELECT id FROM sink WHERE name = ?", (name,)).fetchone()[0]
    return found
