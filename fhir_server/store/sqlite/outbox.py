"""The outbox: deliveries made from the commit order, claimed under a lease, kept as a ledger.

Changes run as work of the committer, so they share its group commits and never wait for
its lock; reads have connections of their own.
"""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from fhir_server.core.identity import ResourceKey
from fhir_server.core.receipt import Receipt
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.store.ledger import ReceiptHead
from fhir_server.store.protocol import (
    Decision,
    Delivery,
    DeliveryEvent,
    DeliveryState,
    Page,
    Routed,
)
from fhir_server.store.sqlite import ledger, receipts, versions
from fhir_server.store.sqlite.committer import Committer, decision, statement
from fhir_server.store.sqlite.ledger import STATES, state_number
from fhir_server.store.sqlite.reader import Readers

T = TypeVar("T")


class SqliteOutbox:
    """Blocking; any thread may use it."""

    def __init__(
        self,
        readers: Readers,
        committer: Committer,
        now: Callable[[], datetime],
        search: Callable[[sqlite3.Connection, Query], Page],
    ) -> None:
        self._readers = readers
        self._committer = committer
        self._now = now
        self._search = search

    def fan_out(
        self,
        route: Callable[[Version], Sequence[Routed]],
        limit: int,
        *,
        kind: str = "",
        begin: int = 0,
    ) -> int:
        """Make deliveries for the versions not yet looked at, once each; how many versions.

        Routing happens outside the commit. If another worker was faster, nothing is made
        and the answer is 0: there is more to look at, but not from here.
        """

        def look(connection: sqlite3.Connection) -> tuple[int, tuple[Version, ...]]:
            position = ledger.position(connection, kind)
            return position, versions.changes(connection, max(position, begin), limit)

        position, found = self._readers.bounded(look)
        if not found:
            return 0
        routed = [(version, tuple(route(version))) for version in found]
        moved: bool = self._change(
            lambda connection, now: ledger.fan_out(connection, now, kind, position, routed)
        )
        return len(found) if moved else 0

    def claim(self, sink: str, owner: str, lease: float, limit: int) -> tuple[Delivery, ...]:
        """Deliveries of one group that are due, leased for `lease` seconds."""
        now = versions.milliseconds(self._now())
        # Asked for outside the commit: workers ask often, and mostly for nothing.
        if not self._readers.bounded(lambda c: ledger.due_group(c, now, sink)):
            return ()
        return self._change(
            lambda connection, at: ledger.claim(
                connection, at, sink, owner, round(lease * 1000), limit
            )
        )

    def acknowledge(self, deliveries: Sequence[Delivery], owner: str, receipt: str) -> None:
        self._settle(deliveries, owner, DeliveryState.ACCEPTED, receipt=receipt)

    def defer(self, deliveries: Sequence[Delivery], owner: str, delay: float, reason: str) -> None:
        self._settle(
            deliveries, owner, DeliveryState.QUEUED, reason=reason, delay=round(delay * 1000)
        )

    def park(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        self._settle(deliveries, owner, DeliveryState.PARKED, reason=reason)

    def renew(self, deliveries: Sequence[Delivery], owner: str, lease: float) -> None:
        ids = [delivery.delivery_id for delivery in deliveries]
        self._change(lambda c, now: ledger.renew(c, ids, owner, now + round(lease * 1000)))

    def reject(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        self._settle(deliveries, owner, DeliveryState.REJECTED, reason=reason)

    def withhold(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        self._settle(deliveries, owner, DeliveryState.WITHHELD, reason=reason)

    def conclude(self, delivery_ids: Sequence[int], state: DeliveryState, detail: str) -> int:
        return self._change(
            lambda c, now: ledger.conclude(c, now, delivery_ids, state_number(state), detail)
        )

    def retry(self, delivery_ids: Sequence[int]) -> int:
        """Queue stopped deliveries again, now; those overtaken become superseded."""
        return self._change(lambda c, now: ledger.retry(c, now, delivery_ids))

    def list(
        self,
        sink: str | None,
        states: Sequence[DeliveryState],
        limit: int,
        after: int,
        *,
        patient: ResourceKey | None = None,
        since: datetime | None = None,
    ) -> tuple[Delivery, ...]:
        """By id, behind the id `after`; no state given is any."""
        queued = None if since is None else versions.milliseconds(since)
        return self._readers.bounded(
            lambda c: ledger.find(c, sink, states, limit, after, patient, queued)
        )

    def show(self, delivery_id: int) -> tuple[Delivery, tuple[DeliveryEvent, ...]] | None:
        return self._readers.bounded(lambda c: ledger.show(c, delivery_id))

    def counts(self) -> dict[tuple[str, DeliveryState], int]:
        def count(connection: sqlite3.Connection) -> list[Any]:
            return connection.execute(
                "SELECT s.name, c.state, c.number FROM delivery_count c "
                "JOIN sink s ON s.id = c.sink WHERE c.number > 0"
            ).fetchall()

        return {(sink, STATES[state]): n for sink, state, n in self._readers.bounded(count)}

    def version(self, delivery: Delivery) -> Version:
        found = self._readers.point(lambda c: versions.load(c, [delivery.sequence]))
        return found[0]

    def read(self, key: ResourceKey, version_id: int | None = None) -> Version | None:
        if version_id is None:
            return self._readers.point(lambda c: versions.read(c, key))
        number = version_id
        return self._readers.point(lambda c: versions.vread(c, key, number))

    def oldest_due(self) -> datetime | None:
        row = self._readers.point(
            lambda c: c.execute(
                "SELECT queued_at FROM delivery WHERE state < 2 ORDER BY queued_at LIMIT 1"
            ).fetchone()
        )
        return None if row is None else versions.instant(row[0])

    def oldest_open(self, sink: str) -> Delivery | None:
        return self._readers.point(lambda c: ledger.oldest_open(c, sink))

    def state_of(self, sink: str, sequence: int) -> DeliveryState | None:
        return self._readers.point(lambda c: ledger.state_of(c, sink, sequence))

    def newest(self) -> int:
        row = self._readers.point(
            lambda c: c.execute("SELECT coalesce(max(id), 0) FROM delivery").fetchone()
        )
        return int(row[0])

    def waiting(self, prefix: str) -> tuple[str, ...]:
        now = versions.milliseconds(self._now())
        return self._readers.bounded(lambda c: ledger.waiting(c, now, prefix))

    def made(self, sink: str, after: int = 0, up_to: int | None = None) -> int:
        return self._readers.bounded(lambda c: ledger.made(c, sink, after, up_to))

    def numbered(self, sink: str, first: int, limit: int) -> tuple[Delivery, ...]:
        return self._readers.bounded(lambda c: ledger.numbered(c, sink, first, limit))

    def receipts(self, sink: str, after: int, limit: int) -> tuple[Receipt, ...]:
        return self._readers.bounded(lambda c: receipts.find(c, sink, after, limit))

    def receipt_heads(self) -> dict[str, ReceiptHead]:
        return self._readers.bounded(receipts.heads)

    def receipt_numbers(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        return self._readers.bounded(lambda c: receipts.numbers(c, delivery_ids))

    def audited(self, sink: str, number: int) -> None:
        self._change(lambda c, _: receipts.mark_audited(c, sink, number))

    def search(self, query: Query) -> Page:
        return self._readers.bounded(lambda c: self._search(c, query))

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        def look(connection: sqlite3.Connection) -> tuple[int, tuple[Version, ...]]:
            # The newest first: what is committed in between is found again the next time.
            newest, _ = versions.newest(connection)
            return newest, versions.changes(connection, after, -1, resource_types)

        return self._readers.bounded(look)

    def commit(self, decide: Decision[T]) -> T:
        result: T = self._committer.commit_blocking(decision(decide))
        return result

    def _settle(
        self,
        deliveries: Sequence[Delivery],
        owner: str,
        state: DeliveryState,
        *,
        reason: str = "",
        receipt: str = "",
        delay: int = 0,
    ) -> None:
        ids = [delivery.delivery_id for delivery in deliveries]
        self._change(
            lambda connection, now: ledger.settle(
                connection, now, ids, owner, state_number(state), now + delay, reason, receipt
            )
        )

    def _change(self, execute: Callable[[sqlite3.Connection, int], T]) -> T:
        """Run `execute` with the time, in milliseconds, in a commit; its answer."""
        result: T = self._committer.commit_blocking(
            statement(lambda c: execute(c, versions.milliseconds(self._now())))
        )
        return result
