"""Leases: short ones, renewed while what they cover is being sent.

So what a process had in hand when it died goes on after seconds, and what is sent slowly is
not taken over by another worker meanwhile.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock, Thread

from fhir_server.errors import StoreUnavailable
from fhir_server.store.protocol import Delivery, Outbox

_log = logging.getLogger(__name__)

_LOOK = 0.25


class Held:
    """Deliveries that were claimed together; `since` is when their lease began."""

    def __init__(self, deliveries: Sequence[Delivery], lease: float, since: float) -> None:
        self.deliveries = deliveries
        self.since = since
        self._lease = lease

    @property
    def is_safe(self) -> bool:
        """Whether sending may begin: it is ours for at least half a lease."""
        return time.monotonic() - self.since < self._lease / 2


class Leases:
    """What one worker holds; `start` it, or leases are as long as they were claimed for."""

    def __init__(self, outbox: Outbox, owner: str, lease: float, stopping: Event) -> None:
        self._outbox = outbox
        self._owner = owner
        self._lease = lease
        self._stopping = stopping
        self._lock = Lock()
        self._held: set[Held] = set()

    def start(self) -> None:
        """Begin to renew, until `stopping` is set and nothing is held."""
        Thread(target=self._run, name="leases", daemon=True).start()

    @contextmanager
    def holding(self, deliveries: Sequence[Delivery], since: float) -> Iterator[Held]:
        """They are in hand inside of this; `since` is from before they were claimed."""
        held = Held(deliveries, self._lease, since)
        with self._lock:
            self._held.add(held)
        try:
            yield held
        finally:
            with self._lock:
                self._held.discard(held)

    def renew(self) -> None:
        """Renew those of which a third is over."""
        with self._lock:
            due = [h for h in self._held if time.monotonic() - h.since > self._lease / 3]
        for held in due:
            begun = time.monotonic()
            try:
                self._outbox.renew(held.deliveries, self._owner, self._lease)
            except StoreUnavailable:
                _log.warning("a lease was not renewed", extra={"count": len(held.deliveries)})
                continue
            held.since = begun

    def _run(self) -> None:
        pause = Event()
        while self._held or not self._stopping.is_set():
            pause.wait(min(_LOOK, self._lease / 6))
            try:
                self.renew()
            except Exception as error:  # a thread that ends would let all leases run out
                _log.error("renewing failed", extra={"error": type(error).__qualname__})
