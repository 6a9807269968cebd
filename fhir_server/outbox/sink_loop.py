"""One sink's deliveries: claim, send, and record what became of them."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event
from typing import NamedTuple

from fhir_server.errors import (
    DeliveryDeferred,
    DeliveryPending,
    DeliveryRejected,
    DeliveryWithheld,
    StoreUnavailable,
)
from fhir_server.outbox.backoff import Backoff
from fhir_server.outbox.idempotency import idempotency_key
from fhir_server.outbox.leases import Leases
from fhir_server.outbox.sink import Attentive, Sink
from fhir_server.store.protocol import Delivery, Outbox

_log = logging.getLogger(__name__)


class Pace(NamedTuple):
    """How often and how patiently; times in seconds.

    `poll` is the longest that a commit of another process goes unnoticed. After a crash
    what was in hand waits for the end of its `lease`, which is renewed while it is sent;
    none is begun in its second half, so what is sent is always ours. `delivery` spaces the
    attempts at one delivery, `receiver` the attempts at a receiver that fails whatever it
    is sent. What failed `suspect_after` times is sent in parts.
    `max_attempts` at the cap of `delivery` are about 17 days.
    """

    poll: float = 0.5
    lease: float = 15.0
    fan_out_limit: int = 500
    delivery: Backoff = Backoff(base=1.0, cap=300.0)
    receiver: Backoff = Backoff(base=0.5, cap=30.0)
    suspect_after: int = 3
    max_attempts: int = 10_000


class SinkLoop:
    """Delivers for one sink; `step` again and again, from one thread."""

    def __init__(
        self,
        outbox: Outbox,
        sink: Sink,
        owner: str,
        pace: Pace,
        chance: Callable[[], float],
        stopping: Event,
        leases: Leases | None = None,
    ) -> None:
        self._outbox = outbox
        self._sink = sink
        self._owner = owner
        self._pace = pace
        self._chance = chance
        self._stopping = stopping
        self._leases = leases or Leases(outbox, owner, pace.lease, stopping)
        self._failures = 0
        self._pause = 0.0

    def step(self) -> float | None:
        """Claim one batch and see it through.

        Returns: the seconds to leave the receiver alone, or None if nothing was due.

        Raises:
            StoreUnavailable: nothing could be claimed.
        """
        if isinstance(self._sink, Attentive):
            self._sink.attend()
        begun = time.monotonic()
        claimed = self._outbox.claim(
            self._sink.name, self._owner, self._pace.lease, self._sink.batch_size
        )
        if not claimed:
            return None
        self._pause = 0.0
        batches = deque([claimed])
        with self._leases.holding(claimed, begun) as held:
            while batches:
                batch = batches.popleft()
                if not held.is_safe or self._pause or self._stopping.is_set():
                    self._put_off(batch, 0.0, "not tried")
                else:
                    batches.extendleft(reversed(self._send(batch)))
        return self._pause

    def _send(self, batch: tuple[Delivery, ...]) -> list[tuple[Delivery, ...]]:
        """Send `batch`; the smaller batches to be tried in its stead, if it may be to blame."""
        try:
            versions = [self._outbox.version(delivery) for delivery in batch]
            receipt = self._sink.deliver(versions, idempotency_key(self._sink.name, versions))
        except DeliveryPending as pending:
            self._failures = 0
            delay = self._pace.delivery.delay(_attempts(batch), self._chance(), pending.retry_after)
            self._put_off(batch, delay, str(pending))
            return []
        except DeliveryDeferred as deferred:
            self._failures += 1
            self._pause = self._pace.receiver.delay(
                self._failures, self._chance(), deferred.retry_after
            )
            self._defer(batch, str(deferred), deferred.retry_after)
            return []
        except DeliveryRejected as rejected:
            self._failures = 0
            if len(batch) > 1:
                return _halves(batch)
            reason = str(rejected)
            self._record(lambda: self._outbox.reject(batch, self._owner, reason))
            _log.warning("delivery rejected", extra=_names(batch, reason))
            return []
        except DeliveryWithheld as withheld:
            return self._withhold(batch, withheld)
        except StoreUnavailable:
            raise
        except Exception as error:  # an adapter's fault must not end the deliveries of others
            # Only the class: a message may quote a patient's data.
            _log.error("an adapter failed", extra=_names(batch, type(error).__qualname__))
            if len(batch) > 1:
                return _halves(batch)
            self._defer(batch, f"internal error ({type(error).__qualname__})", None)
            return []
        self._failures = 0
        self._record(lambda: self._outbox.acknowledge(batch, self._owner, receipt))
        return []

    def _withhold(
        self, batch: tuple[Delivery, ...], withheld: DeliveryWithheld
    ) -> list[tuple[Delivery, ...]]:
        """Record what may not go; the rest of `batch`, still to be sent."""
        which, reason = withheld.sequences, str(withheld)
        kept = tuple(d for d in batch if which is None or d.sequence in which)
        if not kept:
            raise RuntimeError("a sink withheld what it was not given")
        self._record(lambda: self._outbox.withhold(kept, self._owner, reason))
        _log.info("delivery withheld", extra=_names(kept, reason))
        rest = tuple(each for each in batch if each not in kept)
        return [rest] if rest else []

    def _defer(self, batch: tuple[Delivery, ...], reason: str, retry_after: float | None) -> None:
        tired = tuple(each for each in batch if each.attempts >= self._pace.max_attempts)
        if tired:
            self._record(
                lambda: self._outbox.park(tired, self._owner, f"tried too often: {reason}")
            )
            _log.warning("delivery parked", extra=_names(tired, reason))
        rest = tuple(each for each in batch if each.attempts < self._pace.max_attempts)
        if len(rest) > 1 and _attempts(rest) >= self._pace.suspect_after:
            # Perhaps the receiver stumbles over one of them: let one half go ahead of the
            # other, so that in time what is to blame stands alone.
            parts = sorted(_halves(rest), key=lambda _: self._chance())
            self._put_off(parts[0], 0.0, reason)
            rest = parts[1]
        if rest:
            # One delay for all: what was claimed together can go together again.
            attempts = _attempts(rest)
            delay = self._pace.delivery.delay(attempts, self._chance(), retry_after)
            self._put_off(rest, delay, reason)

    def _put_off(self, batch: tuple[Delivery, ...], delay: float, reason: str) -> None:
        self._record(lambda: self._outbox.defer(batch, self._owner, delay, reason))
        _log.info("delivery deferred", extra=_names(batch, reason) | {"delay": round(delay, 3)})

    def _record(self, write: Callable[[], None]) -> None:
        """Write to the ledger, over a short absence of the store.

        Raises:
            StoreUnavailable: it stayed away. The lease runs out and the delivery is made
                again, which the receiver can tell.
        """
        for wait in (0.1, 0.5, 2.0, 5.0):
            try:
                return write()
            except StoreUnavailable:
                self._stopping.wait(wait)
        return write()


def _attempts(batch: Sequence[Delivery]) -> int:
    return max(delivery.attempts for delivery in batch)


def _halves(batch: tuple[Delivery, ...]) -> list[tuple[Delivery, ...]]:
    """A transaction is all or nothing: by halving, the faulty one is found and the rest goes."""
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]


def _names(batch: Sequence[Delivery], reason: str) -> dict[str, object]:
    return {
        "sink": batch[0].sink,
        "deliveries": [delivery.delivery_id for delivery in batch[:20]],
        "count": len(batch),
        "reason": reason,
    }
