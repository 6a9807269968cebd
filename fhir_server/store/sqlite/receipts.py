"""Receipts as rows: written in the commit that settles deliveries, read for checks and audits."""

import json
import sqlite3
from collections.abc import Sequence

from fhir_server.core.receipt import Receipt, ReceiptLine, sealed
from fhir_server.store.ledger import Delivery, DeliveryState, ReceiptHead
from fhir_server.store.sqlite.versions import instant

_STATES = tuple(DeliveryState)


def write(
    connection: sqlite3.Connection,
    sink: str,
    now: int,
    state: DeliveryState,
    detail: str,
    deliveries: Sequence[Delivery],
) -> None:
    """Add the next receipt of `sink`; its deliveries say that it is their last."""
    key, number, digest = connection.execute(
        "SELECT id, receipts, digest FROM sink WHERE name = ?", (sink,)
    ).fetchone()
    lines = tuple(
        ReceiptLine(each.delivery_id, each.sequence, f"{each.key}/_history/{each.version_id}")
        for each in deliveries
    )
    receipt = sealed(Receipt(sink, number + 1, instant(now), state.value, detail, lines), digest)
    connection.execute(
        "INSERT INTO receipt (sink, number, at, state, detail, lines, digest) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            receipt.number,
            now,
            _STATES.index(state),
            detail,
            json.dumps(lines, separators=(",", ":")),
            receipt.digest,
        ),
    )
    connection.execute(
        "UPDATE sink SET receipts = ?, digest = ? WHERE id = ?",
        (receipt.number, receipt.digest, key),
    )
    connection.execute(
        "UPDATE delivery SET receipt_number = ? WHERE id IN (SELECT value FROM json_each(?))",
        (receipt.number, json.dumps([line.delivery_id for line in lines])),
    )


def find(connection: sqlite3.Connection, sink: str, after: int, limit: int) -> tuple[Receipt, ...]:
    rows = connection.execute(
        "SELECT number, at, state, detail, lines, digest FROM receipt "
        "WHERE sink = (SELECT id FROM sink WHERE name = ?) AND number > ? "
        "ORDER BY number LIMIT ?",
        (sink, after, limit),
    ).fetchall()
    return tuple(
        Receipt(
            sink,
            number,
            instant(at),
            _STATES[state].value,
            detail,
            tuple(ReceiptLine(*line) for line in json.loads(lines)),
            digest,
        )
        for number, at, state, detail, lines, digest in rows
    )


def heads(connection: sqlite3.Connection) -> dict[str, ReceiptHead]:
    rows = connection.execute(
        "SELECT name, receipts, digest, audited FROM sink WHERE receipts > 0 ORDER BY name"
    ).fetchall()
    return {name: ReceiptHead(*head) for name, *head in rows}


def numbers(connection: sqlite3.Connection, delivery_ids: Sequence[int]) -> dict[int, int]:
    rows = connection.execute(
        "SELECT id, receipt_number FROM delivery WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(delivery_ids)),),
    ).fetchall()
    return dict(rows)


def mark_audited(connection: sqlite3.Connection, sink: str, number: int) -> None:
    connection.execute(
        "UPDATE sink SET audited = ? WHERE name = ? AND audited < ?", (number, sink, number)
    )
