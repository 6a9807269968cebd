"""The ledger: what became of every delivery, and the receipts that prove it."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from fhir_server.core.identity import ResourceKey
from fhir_server.core.receipt import Receipt


class DeliveryState(StrEnum):
    """Where a delivery stands.

    queued -> sent while a worker holds the lease -> accepted; back to queued on a
    deferral. Rejected is the receiver's last word, parked was tried too often, withheld
    may not go there: all three wait for a person, whose retry queues them again, or finds
    them superseded, because a newer version went out before. Registered is an accepted
    one that the receiver has confirmed later.
    """

    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"
    PARKED = "parked"
    SUPERSEDED = "superseded"
    WITHHELD = "withheld"
    REJECTED = "rejected"
    REGISTERED = "registered"


STOPPED = (DeliveryState.PARKED, DeliveryState.REJECTED, DeliveryState.WITHHELD)
"""What `Outbox.retry` brings back."""


class Delivery(NamedTuple):
    """One version on its way to one sink.

    `group` is what the sink sends together (a patient's day); `attempts` counts the
    claims; `reason` is why it was deferred or parked, free of patient data.
    """

    delivery_id: int
    sink: str
    sequence: int
    key: ResourceKey
    version_id: int
    group: str
    state: DeliveryState
    attempts: int
    due: datetime
    queued_at: datetime
    changed_at: datetime
    reason: str = ""
    receipt: str = ""


class DeliveryEvent(NamedTuple):
    """One line of a delivery's history."""

    at: datetime
    state: DeliveryState
    detail: str


class ReceiptHead(NamedTuple):
    """Where a sink's receipts end, and up to which of them AuditEvents were written."""

    number: int
    digest: str
    audited: int


class Ledger(Protocol):
    """What was delivered and what was not, for whoever asks or decides about it.

    Plain blocking calls, safe from any thread.
    """

    def conclude(self, delivery_ids: Sequence[int], state: DeliveryState, detail: str) -> int:
        """What the receiver said later of accepted ones: registered or rejected; how many.

        Those that are not accepted (any more) stay as they are, so it may be said twice.
        """
        ...

    def retry(self, delivery_ids: Sequence[int]) -> int:
        """Queue stopped deliveries again, now; those overtaken become superseded."""
        ...

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
        """By number, behind the number `after`; no state given is any.

        `patient` is whom the version is about; `since` bounds when they were queued.
        """
        ...

    def show(self, delivery_id: int) -> tuple[Delivery, tuple[DeliveryEvent, ...]] | None: ...

    def counts(self) -> dict[tuple[str, DeliveryState], int]:
        """Deliveries by sink and state."""
        ...

    def receipts(self, sink: str, after: int, limit: int) -> tuple[Receipt, ...]:
        """What became of a sink's deliveries, by number behind `after`."""
        ...

    def receipt_heads(self) -> dict[str, ReceiptHead]:
        """Every sink that has receipts, and where they end."""
        ...

    def receipt_numbers(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        """The last receipt of each of these deliveries; 0 for none yet."""
        ...

    def audited(self, sink: str, number: int) -> None:
        """AuditEvents were written for the sink's receipts up to `number`; never goes back."""
        ...
