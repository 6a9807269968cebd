"""Subscriptions: their part of a worker, from the change feed to the notification."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from threading import Event, Thread

from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.core.version import Version
from fhir_server.outbox.backoff import Backoff
from fhir_server.outbox.sink_loop import Pace
from fhir_server.outbox.subscription_book import SubscriptionBook
from fhir_server.outbox.subscription_channel import NotificationChannel
from fhir_server.outbox.subscription_lanes import Lanes
from fhir_server.outbox.subscription_route import SubscriptionRoute
from fhir_server.outbox.subscription_senders import SubscriptionSenders
from fhir_server.outbox.subscription_sink import Surroundings
from fhir_server.outbox.telling import (
    Masking,
    Orphaned,
    Visible,
    everything,
    nobody_leaves,
    unmasked,
)
from fhir_server.store.protocol import Outbox, Routed

# One failure among many successes costs little; what fails each time is soon left alone.
PACE = Pace(receiver=Backoff(base=0.05, cap=30.0), lease=10.0, delivery=Backoff(base=1.0, cap=60.0))


class Subscriptions:
    """Follows the Subscriptions and sends their events. Made once for each process.

    What is in error for longer than `patience` is switched off: the outbox never waits longer.
    """

    def __init__(
        self,
        outbox: Outbox,
        reader: SubscriptionReader,
        index: Callable[[Resource], IndexEntries],
        channel: NotificationChannel,
        now: Callable[[], datetime],
        *,
        base_url: str = "",
        visible: Visible = everything,
        masking: Masking = unmasked,
        is_orphaned: Orphaned = nobody_leaves,
        threads: int = 8,
        pace: Pace = PACE,
        patience: timedelta = timedelta(days=7),
    ) -> None:
        self._outbox = outbox
        self._book = SubscriptionBook(outbox, reader)
        self._route = SubscriptionRoute(self._book, outbox, index, visible)
        self._channel = channel
        self._now = now
        self._base_url = base_url
        self._visible = visible
        self._masking = masking
        self._is_orphaned = is_orphaned
        self._threads = threads
        self._pace = pace
        self._patience = patience
        self._batch = 0
        self._senders: SubscriptionSenders | None = None

    def catch_up(self) -> int | None:
        """Learn which Subscriptions there are; the sequence before the first, None without one.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        if self._batch:
            # Not further: a batch whose commit failed is looked at again.
            self._book.forget(self._batch)
            self._batch = 0
        self._book.catch_up()
        return self._book.begin

    def route(self, version: Version) -> Sequence[Routed]:
        """The events that `version` is. Versions come in commit order, from one thread."""
        self._batch = self._batch or version.sequence
        return self._route(version)

    def start(self, owner: str, chance: Callable[[], float], stopping: Event) -> list[Thread]:
        """Begin to send; the threads, which end when `stopping` is set."""
        shared = Surroundings(
            self._outbox,
            self._book,
            self._channel,
            self._base_url,
            self._unreachable,
            self._failing,
            self._well,
            self._visible,
            self._masking,
            self._is_orphaned,
        )
        self._senders = SubscriptionSenders(
            shared,
            Lanes(self._threads),
            self._threads,
            now=self._now,
            owner=owner,
            pace=self._pace,
            chance=chance,
            stopping=stopping,
            patience=self._patience,
        )
        self._senders.leases.start()
        for thread in self._senders.threads:
            thread.start()
        return self._senders.threads

    def nudge(self) -> None:
        """Something may be due."""
        if self._senders is not None:
            self._senders.nudge()

    def close(self) -> None:
        """Cut what is under way: it ends as deferred."""
        self._channel.close()

    def _failing(self, endpoint: str, retry_after: float | None) -> None:
        if self._senders is not None:
            self._senders.failing(endpoint, retry_after)

    def _well(self, endpoint: str) -> None:
        if self._senders is not None:
            self._senders.well(endpoint)

    def _unreachable(self, endpoint: str) -> None:
        if self._senders is not None:
            self._senders.unreachable(endpoint)
