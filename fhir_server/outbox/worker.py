"""The outbox worker: threads that route committed versions and deliver them.

One thread fans out, and each sink has its own, so a dead receiver delays nobody else.
Any number of workers, in any number of processes, share one outbox: leases keep them
apart. They need not know the same sinks: each kind of sink has its own place in the
commit order (0016).
"""

import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from threading import Event, Thread
from types import MappingProxyType
from typing import NamedTuple

from fhir_server.outbox.delivery_audit import DeliveryAudit
from fhir_server.outbox.fan_out import Route, route_to
from fhir_server.outbox.leases import Leases
from fhir_server.outbox.sink import Sink
from fhir_server.outbox.sink_loop import Pace, SinkLoop
from fhir_server.outbox.subscription_book import RESOURCE_TYPE
from fhir_server.outbox.subscription_worker import Subscriptions
from fhir_server.store.protocol import Outbox

_log = logging.getLogger(__name__)

# After a sink's connections were cut, its thread has only the ledger left to write.
_AFTER_CUT = 5.0
# Between two looks at what was committed: a busy server's commits are fanned out in groups.
_GATHERING = 0.01


class _Kind(NamedTuple):
    """A kind of sink that looks at the commit order by itself.

    `begin` is the sequence up to which nothing can be its; None while it has no use for any.
    """

    name: str
    route: Route
    begin: Callable[[], int | None]


_AUDIT_SECONDS = 0.5


class Worker:
    """Delivers until it is stopped.

    A receiver that is set up later gets what came before it, also where others have long
    been told, but nothing from before its moment in `begins`, where it has one by its name.
    For Subscriptions nothing is looked at before there is one.
    """

    def __init__(
        self,
        outbox: Outbox,
        sinks: Sequence[Sink],
        *,
        subscriptions: Subscriptions | None = None,
        audit: DeliveryAudit | None = None,
        begins: Mapping[str, datetime] = MappingProxyType({}),
        pace: Pace = Pace(),  # noqa: B008 - a constant
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._sinks = tuple(sinks)
        self._pace = pace
        self._subscriptions = subscriptions
        self._audit = audit
        route_to(sinks)
        self._kinds = [
            _Kind(
                sink.name,
                route_to((sink,), read=outbox.read, begin=begins.get(sink.name)),
                lambda: 0,
            )
            for sink in sinks
        ]
        if subscriptions is not None:
            route = route_to((), subscriptions.route, read=outbox.read)
            self._kinds.append(_Kind(RESOURCE_TYPE, route, subscriptions.catch_up))
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._stopping = Event()
        self._committed = Event()
        self._chance = chance
        self._queued = {sink.name: Event() for sink in self._sinks}
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Begin; returns at once."""
        if self._threads:
            raise RuntimeError("the worker was started before")
        if not self._sinks and self._subscriptions is None:
            return
        self._threads = [Thread(target=self._fan_out, name="outbox-fan-out", daemon=True)]
        leases = Leases(self._outbox, self._owner, self._pace.lease, self._stopping)
        leases.start()
        for sink in self._sinks:
            loop = SinkLoop(
                self._outbox, sink, self._owner, self._pace, self._chance, self._stopping, leases
            )
            self._threads.append(
                Thread(
                    target=self._deliver,
                    args=(loop, self._queued[sink.name]),
                    name=f"outbox-{sink.name}",
                    daemon=True,
                )
            )
        if self._sinks and self._audit is not None:
            audit = Thread(target=self._follow, args=(self._audit,), name="outbox-audit")
            audit.daemon = True
            self._threads.append(audit)
        for thread in self._threads:
            thread.start()
        if self._subscriptions is not None:
            self._threads += self._subscriptions.start(self._owner, self._chance, self._stopping)

    def nudge(self) -> None:
        """Something was committed: look now, not at the next poll. From any thread, cheap."""
        self._committed.set()

    def stop(self, grace: float = 15.0) -> bool:
        """Claim no more and wait for what is under way, then cut it.

        What was cut is released to the next worker; what could not even be released
        comes back when its lease runs out.

        Returns: whether all threads ended.
        """
        self._stopping.set()
        self._committed.set()
        for queued in self._queued.values():
            queued.set()
        if self._subscriptions is not None:
            self._subscriptions.nudge()
        self._join(grace)
        for sink in self._sinks:
            sink.close()
        if self._subscriptions is not None:
            self._subscriptions.close()
        self._join(_AFTER_CUT)
        return not any(thread.is_alive() for thread in self._threads)

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _fan_out(self) -> None:
        while not self._stopping.is_set():
            self._committed.clear()
            looked_at = max(map(self._fan_out_kind, self._kinds))
            if looked_at:
                for queued in self._queued.values():
                    queued.set()
                if self._subscriptions is not None:
                    self._subscriptions.nudge()
            if looked_at < self._pace.fan_out_limit:
                self._stopping.wait(_GATHERING)
                self._committed.wait(self._pace.poll)

    def _fan_out_kind(self, kind: _Kind) -> int:
        """How many versions were looked at; one kind's failure does not stop the others."""
        try:
            begin = kind.begin()
            if begin is None:
                return 0
            return self._outbox.fan_out(
                kind.route, self._pace.fan_out_limit, kind=kind.name, begin=begin
            )
        except Exception as error:  # a thread that ends would stop all deliveries
            self._complain("fan-out failed", error)
            return 0

    def _deliver(self, loop: SinkLoop, queued: Event) -> None:
        while not self._stopping.is_set():
            queued.clear()
            try:
                pause = loop.step()
            except Exception as error:  # as above
                self._complain("delivering failed", error)
                continue
            if pause is None:
                queued.wait(self._pace.poll)
            elif pause:
                # Not to be cut short by new commits: the receiver is in trouble.
                self._stopping.wait(pause)

    def _follow(self, audit: DeliveryAudit) -> None:
        while not self._stopping.is_set():
            try:
                written = audit.step()
            except Exception as error:  # as above
                self._complain("writing AuditEvents failed", error)
                continue
            if not written:
                # Not sooner: the longer it waits, the more share one commit.
                self._stopping.wait(max(self._pace.poll, _AUDIT_SECONDS))

    def _complain(self, what: str, error: Exception) -> None:
        # Only the class: a message may quote a patient's data.
        _log.error(what, extra={"error": type(error).__qualname__})
        self._stopping.wait(self._pace.receiver.base * (1 + self._chance()))
