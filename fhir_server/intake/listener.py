"""The listener: messages in batches, decided and durable before any is acknowledged."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.mapping.catalog import MappingCatalog
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.reading import Fault, QuarantineReason
from fhir_server.core.security.principal import Principal
from fhir_server.errors import StoreUnavailable
from fhir_server.intake import metrics
from fhir_server.intake.connection import Connection
from fhir_server.intake.message import Message, Sender, route
from fhir_server.intake.topic import TopicRoute
from fhir_server.interactions import access
from fhir_server.interactions.access import Access
from fhir_server.interactions.context import Context
from fhir_server.operations.assignments import Assignments
from fhir_server.operations.ingest_readings import (
    Decided,
    ReadPayload,
    decide_readings,
    read_payload,
)
from fhir_server.rest.metrics import count_readings
from fhir_server.store.protocol import Transaction

_log = logging.getLogger(__name__)

_SHORTEST_WAIT = 0.25
_LONGEST_WAIT = 15.0
# Stage one of a payload this long would keep the loop from its connection.
_LONG_PAYLOAD = 256 * 1024
_PAYLOADS_A_TURN = 50


class ListenError(Exception):
    """The broker will not have us; the message is for the operator."""


class Pace(NamedTuple):
    """How many messages make a batch, and how long the first of them waits for others."""

    batch: int = 500
    linger_seconds: float = 0.02
    # QoS 0 is never acknowledged, so no receive maximum bounds it.
    most_waiting: int = 5_000


DEFAULT_PACE = Pace()


class Part(NamedTuple):
    """Messages of one sender, in the order they came."""

    sender: Sender
    messages: tuple[Message, ...]
    faults: tuple[Fault | None, ...]

    def singly(self) -> list["Part"]:
        return [
            Part(self.sender, (message,), (fault,))
            for message, fault in zip(self.messages, self.faults, strict=True)
        ]


class Listener:
    """Takes what a connection brings; `context` may be replaced while it runs."""

    def __init__(
        self,
        context: Context,
        mappings: MappingCatalog,
        routes: Sequence[TopicRoute],
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self.context = context
        self._mappings = mappings
        self._routes = tuple(routes)
        self._pace = pace
        self._assignments = Assignments()
        self._waiting: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._failure = ""
        self._is_stopping = False

    def arrived(self, message: Message) -> None:
        """The connection has a message."""
        metrics.messages.labels("received").inc()
        if not message.mid and len(self._waiting) >= self._pace.most_waiting:
            metrics.messages.labels("dropped").inc()
            return
        self._waiting.append(message)
        metrics.waiting.set(len(self._waiting))
        self._changed.set()

    def failed(self, reason: str) -> None:
        """The connection cannot go on."""
        self._failure = reason
        self._changed.set()

    def stop(self) -> None:
        """Finish the batch under way, and no more: the broker has the others."""
        self._is_stopping = True
        self._changed.set()

    async def run(self, connection: Connection) -> None:
        """Until `stop`.

        Raises:
            ListenError: the broker refused us, or what we asked for.
        """
        while batch := await self._next_batch():
            await self._decide_all(batch)
            # One batch after the other: acknowledgements keep the order of the messages.
            told = connection.acknowledge(batch)
            asked = sum(1 for message in batch if message.mid)
            metrics.messages.labels("acknowledged").inc(told)
            metrics.messages.labels("unacknowledged").inc(asked - told)

    async def _next_batch(self) -> list[Message]:
        """At least one message; none when it is time to stop."""
        while not self._waiting and not self._is_stopping and not self._failure:
            self._changed.clear()
            await self._changed.wait()
        if self._failure:
            raise ListenError(self._failure)
        if self._is_stopping:
            return []
        if len(self._waiting) < self._pace.batch and self._pace.linger_seconds:
            await asyncio.sleep(self._pace.linger_seconds)
        size = min(len(self._waiting), self._pace.batch)
        batch = [self._waiting.popleft() for _ in range(size)]
        metrics.waiting.set(len(self._waiting))
        metrics.batches.observe(size)
        return batch

    async def _decide_all(self, batch: Sequence[Message]) -> None:
        """Return when each is durable, however long the store is away."""
        parts = self._part(batch)
        wait = _SHORTEST_WAIT
        while parts:
            # At once, so that the store's group commit has them all; in order, so that the
            # first of two that contradict each other wins.
            done = await asyncio.gather(*map(self._decide, parts), return_exceptions=True)
            again: list[Part] = []
            is_away = False
            for part, error in zip(parts, done, strict=True):
                if error is None:
                    continue
                if isinstance(error, StoreUnavailable):
                    is_away = True
                    again.append(part)
                elif not isinstance(error, Exception):
                    raise error
                elif len(part.messages) > 1:
                    again += part.singly()
                elif part.faults[0] is None:
                    # Never its text: it may quote the payload.
                    name = type(error).__name__
                    _log.error("a message of %s is held back: %s", part.sender.mapping, name)
                    metrics.messages.labels("held-back").inc()
                    fault = Fault(QuarantineReason.MALFORMED, f"it could not be decided ({name})")
                    again.append(part._replace(faults=(fault,)))
                else:
                    # Not even kept aside: to acknowledge it would be to lose it.
                    _log.error("a message cannot be held back: %s", type(error).__name__)
                    is_away = True
                    again.append(part)
            parts = again
            if is_away:
                metrics.retries.inc()
                _log.warning("%d messages wait for the store", sum(len(p.messages) for p in parts))
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _part(self, batch: Sequence[Message]) -> list[Part]:
        """By sender, whose payloads share a decision."""
        senders: dict[Sender, list[tuple[Message, Fault | None]]] = {}
        for message in batch:
            routed = route(message, self._routes)
            senders.setdefault(routed.sender, []).append((message, routed.fault))
        return [
            Part(sender, tuple(m for m, _ in pairs), tuple(f for _, f in pairs))
            for sender, pairs in senders.items()
        ]

    async def _decide(self, part: Part) -> None:
        ctx = self.context
        sender = part.sender
        found = self._mappings.get(sender.mapping)
        mapping = None if isinstance(found, Mapping) and found.is_enrolment else found
        payloads: list[ReadPayload] = []
        for position, (message, fault) in enumerate(zip(part.messages, part.faults, strict=True)):
            # Its own: what has no stamp was measured when it came.
            gateway = sender.gateway(message.received)
            if fault is not None:
                payloads.append(ReadPayload(position, message.payload, (fault,)))
            elif len(message.payload) < _LONG_PAYLOAD:
                payloads.append(read_payload(mapping, position, message.payload, gateway))
            else:
                payloads.append(
                    await asyncio.to_thread(
                        read_payload, mapping, position, message.payload, gateway
                    )
                )
            if position % _PAYLOADS_A_TURN == _PAYLOADS_A_TURN - 1:
                await asyncio.sleep(0)

        first = sender.gateway(part.messages[0].received)
        _tell_who(sender)

        def decide(tx: Transaction) -> Decided:
            return decide_readings(
                tx, ctx, self._assignments, sender.mapping, mapping, payloads, first
            )

        decided = await ctx.store.commit(decide)
        self._assignments.confirm(decided.sequence)
        if found is not None:
            verdicts = Counter(result.verdict for result in decided.results)
            count_readings(sender.mapping, verdicts)


def _tell_who(sender: Sender) -> None:
    """Say for the audit trail whose payloads this task is about to commit."""
    principal = Principal("gateway", client_id=sender.gateway_id)
    access.begin_asking(lambda: principal)
    path = f"/readings/{sender.mapping}"
    access.begin(Access("MQTT", path, "", find_interaction=lambda: "readings"))
