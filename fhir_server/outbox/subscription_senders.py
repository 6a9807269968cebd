"""A bounded pool of threads that sends to any number of subscriptions."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from queue import SimpleQueue
from threading import Event, Lock, Thread

from fhir_server.core.identity import ResourceKey
from fhir_server.core.notification import Kind
from fhir_server.core.subscription import Status, Subscription
from fhir_server.errors import DeliveryDeferred, DeliveryRejected
from fhir_server.outbox import subscription_status
from fhir_server.outbox.leases import Leases
from fhir_server.outbox.sink_loop import Pace, SinkLoop
from fhir_server.outbox.subscription_book import RESOURCE_TYPE
from fhir_server.outbox.subscription_lanes import Lanes
from fhir_server.outbox.subscription_route import HANDSHAKE
from fhir_server.outbox.subscription_sink import (
    EventSink,
    HandshakeSink,
    Surroundings,
    standing,
)

_log = logging.getLogger(__name__)

_PREFIX = f"{RESOURCE_TYPE}/"
# What a thread sends to one subscription before others have their turn.
_STEPS = 20
_HOUSEKEEPING = 1.0
_SHORTEST = 0.02


class SubscriptionSenders:
    """Sends what is due until `stopping` is set; one dispatching thread and `threads` senders."""

    def __init__(
        self,
        shared: Surroundings,
        lanes: Lanes,
        threads: int,
        *,
        now: Callable[[], datetime],
        owner: str,
        pace: Pace,
        chance: Callable[[], float],
        stopping: Event,
        patience: timedelta,
    ) -> None:
        self._shared = shared
        self._lanes = lanes
        self._now = now
        self._owner = owner
        self._pace = pace
        self._chance = chance
        self._stopping = stopping
        self._patience = patience
        self._woken = Event()
        self._lock = Lock()
        self._loops: dict[str, SinkLoop] = {}
        self._spoken: dict[ResourceKey, float] = {}
        self._tidied = 0.0
        self.leases = Leases(shared.outbox, owner, pace.lease, stopping)
        self._jobs: SimpleQueue[tuple[str, str, Subscription | None] | None] = SimpleQueue()
        self.threads = [
            Thread(target=self._dispatch, name="subscriptions", daemon=True),
            *(
                Thread(target=self._send, name=f"subscription-sender-{number}", daemon=True)
                for number in range(threads)
            ),
        ]

    def nudge(self) -> None:
        """Something may be due. From any thread, cheap."""
        self._woken.set()

    def unreachable(self, endpoint: str) -> None:
        """An endpoint gave no answer. From any thread."""
        with self._lock:
            self._lanes.silence(endpoint, time.monotonic())

    def failing(self, endpoint: str, retry_after: float | None) -> None:
        """An endpoint answered that it cannot. From any thread."""
        with self._lock:
            self._lanes.fail(endpoint, time.monotonic(), retry_after)

    def well(self, endpoint: str) -> None:
        """An endpoint took something. From any thread."""
        with self._lock:
            self._lanes.succeed(endpoint)

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                if self._shared.book.is_used:
                    for name in self._shared.outbox.waiting(_PREFIX):
                        self._offer(name)
                if time.monotonic() - self._tidied > _HOUSEKEEPING:
                    self._tidied = time.monotonic()
                    self._keep_house()
            except Exception as error:  # a thread that ends would stop all subscriptions
                # Only the class: a message may quote a patient's data.
                _log.error("dispatching failed", extra={"error": type(error).__qualname__})
                self._stopping.wait(self._pace.receiver.base * (1 + self._chance()))
                continue
            with self._lock:
                left = self._lanes.next_end(time.monotonic())
            self._woken.wait(min(self._pace.poll, max(_SHORTEST, left or self._pace.poll)))
        for _ in self.threads:
            self._jobs.put(None)

    def _offer(self, name: str) -> None:
        """Hand `name` to a sender, unless it is not to be sent to now."""
        key = _key_of(name)
        state = self._shared.book.now(key)
        is_handshake = name.endswith(HANDSHAKE)
        if state is None:
            return
        if not is_handshake and state.is_listening and not state.is_verified:
            return
        subscription = state.subscription
        if subscription is not None and not subscription.is_pushed and not is_handshake:
            # Whoever holds the socket sends.
            if state.is_listening:
                return
            subscription = None
        endpoint = subscription.channel.endpoint if subscription else name
        with self._lock:
            if self._lanes.take(name, endpoint, time.monotonic()):
                self._jobs.put((name, endpoint, None))

    def _send(self) -> None:
        while (job := self._jobs.get()) is not None:
            name, endpoint, heartbeat = job
            begun = time.monotonic()
            pause = self._pace.receiver.base
            try:
                pause = self._deliver(name) if heartbeat is None else self._beat(heartbeat)
            except Exception as error:  # as above
                _log.error(
                    "delivering failed", extra={"sink": name, "error": type(error).__qualname__}
                )
            ended = time.monotonic()
            with self._lock:
                self._lanes.give_back(name, endpoint, ended, pause=pause, took=ended - begun)
            self._woken.set()

    def _deliver(self, name: str) -> float:
        """Send what is due, within limits; the seconds to leave the endpoint alone."""
        key = _key_of(name)
        loop = self._loop(name, key)
        until = time.monotonic() + self._pace.poll
        for _ in range(_STEPS):
            if self._stopping.is_set():
                break
            pause = loop.step()
            if pause is None:
                break
            if pause:
                return pause
            with self._lock:
                self._spoken[key] = time.monotonic()
            if time.monotonic() > until:
                break
        return 0.0

    def _loop(self, name: str, key: ResourceKey) -> SinkLoop:
        with self._lock:
            loop = self._loops.get(name)
            if loop is None:
                is_handshake = name.endswith(HANDSHAKE)
                sink = (HandshakeSink if is_handshake else EventSink)(self._shared, key)
                loop = self._loops[name] = SinkLoop(
                    self._shared.outbox,
                    sink,
                    self._owner,
                    self._pace,
                    self._chance,
                    self._stopping,
                    self.leases,
                )
            return loop

    def _keep_house(self) -> None:
        """Switch off what has ended or failed for too long, offer heartbeats, forget."""
        for key in self._shared.book.ended(self._now()):
            subscription_status.switch_off(self._shared.outbox, key, self._now())
        since = self._now() - self._patience
        for key in self._shared.book.in_trouble(since):
            subscription_status.give_up(self._shared.outbox, key, since)
        for key in self._shared.book.broken():
            reason = "what it asks for cannot be evaluated any more"
            subscription_status.report_trouble(self._shared.outbox, key, reason)
        for key, state in self._shared.book.current():
            subscription = state.subscription
            if subscription is not None and self._shared.is_orphaned(state.version):
                subscription_status.disown(self._shared.outbox, key)
            if subscription is None:
                with self._lock:
                    for name in (str(key), f"{key}{HANDSHAKE}"):
                        self._loops.pop(name, None)
                        self._lanes.forget(name)
                    self._spoken.pop(key, None)
            elif (
                state.status is Status.ACTIVE
                and subscription.is_pushed
                and subscription.channel.heartbeat_seconds
            ):
                self._offer_heartbeat(key, subscription, subscription.channel.heartbeat_seconds)

    def _offer_heartbeat(self, key: ResourceKey, subscription: Subscription, period: int) -> None:
        name, endpoint = f"{key}#{Kind.HEARTBEAT}", subscription.channel.endpoint
        now = time.monotonic()
        with self._lock:
            if now - self._spoken.setdefault(key, now) < period:
                return
            if self._lanes.take(name, endpoint, now):
                # Whether it arrives or not: the next one is a period away.
                self._spoken[key] = now
                self._jobs.put((name, endpoint, subscription))

    def _beat(self, subscription: Subscription) -> float:
        shared = self._shared
        total = shared.outbox.made(subscription.sink)
        try:
            shared.channel.heartbeat(subscription, standing(shared, subscription, total))
        except (DeliveryDeferred, DeliveryRejected) as error:
            subscription_status.report_trouble(shared.outbox, subscription.key, str(error))
        return 0.0


def _key_of(name: str) -> ResourceKey:
    return ResourceKey(RESOURCE_TYPE, name.removeprefix(_PREFIX).removesuffix(HANDSHAKE))
