"""A subscription as sinks: its handshakes and its events, each a row of the outbox."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.notification import Event, Standing
from fhir_server.core.subscription import Status, Subscription
from fhir_server.core.version import Version
from fhir_server.errors import DeliveryDeferred, DeliveryRejected, DeliveryWithheld
from fhir_server.outbox import subscription_status
from fhir_server.outbox.mask import NOTHING_LEFT, KeysAwayError, Mask
from fhir_server.outbox.subscription_book import SubscriptionBook
from fhir_server.outbox.subscription_channel import NotificationChannel, UnreachableError
from fhir_server.outbox.subscription_route import HANDSHAKE
from fhir_server.outbox.telling import (
    Masking,
    Orphaned,
    Visible,
    everything,
    nobody_leaves,
    unmasked,
)
from fhir_server.store.protocol import DeliveryState, Outbox

HANDSHAKE_ATTEMPTS = 5
TROUBLE_AFTER = 3
"""Failures in a row, in one process, before a Subscription is said to be in error."""

_OFF = "the subscription is off"


class Surroundings(NamedTuple):
    """What the sinks of all subscriptions share.

    `unreachable` is told of silent endpoints, `failing` of those that answer a failure, with
    the seconds they ask for, `well` of those that took something. `visible` says what may be
    told, `masking` how, `is_orphaned` whether there still is somebody to tell.
    """

    outbox: Outbox
    book: SubscriptionBook
    channel: NotificationChannel
    base_url: str
    unreachable: Callable[[str], None]
    failing: Callable[[str, float | None], None]
    well: Callable[[str], None]
    visible: Visible = everything
    masking: Masking = unmasked
    is_orphaned: Orphaned = nobody_leaves


def standing(shared: Surroundings, subscription: Subscription, total: int) -> Standing:
    """How `subscription` stands, for a notification."""
    return Standing(
        subscription.key,
        subscription.status,
        subscription.topic,
        total,
        base_url=shared.base_url,
    )


def version_before(outbox: Outbox, version: Version) -> Version | None:
    """Of a deletion what was deleted; of what a mask can read by itself nothing."""
    if version.body is not None or version.version_id == 1:
        return None
    return outbox.read(version.key, version.version_id - 1)


class EventSink:
    """Tells a subscription's events. One thread at a time."""

    def __init__(self, shared: Surroundings, key: ResourceKey) -> None:
        self._shared = shared
        self._key = key
        self._failures = 0
        self._counted = (0, 0)

    @property
    def name(self) -> str:
        return str(self._key)

    @property
    def batch_size(self) -> int:
        """As many as its notifications may hold: R4's own hold one."""
        state = self._shared.book.now(self._key)
        if state is None or state.subscription is None:
            return 100
        channel = state.subscription.channel
        return 1 if channel.content is None else channel.max_count

    def group(self, version: Version) -> str | None:
        return None

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        shared = self._shared
        state = shared.book.now(self._key)
        # What is asked for may have changed a moment ago: nothing goes where it must not.
        current = shared.outbox.read(self._key)
        if state is None or current is None or current.is_deletion:
            raise DeliveryRejected(_OFF)
        if state.sequence != current.sequence:
            shared.book.catch_up()
            state = shared.book.now(self._key)
        if state is None or not state.is_listening or state.subscription is None:
            raise DeliveryRejected(_OFF)
        if not state.is_verified:
            raise DeliveryDeferred("the handshake comes first")
        subscription = state.subscription
        self._check_visible(current, versions)
        try:
            mask = shared.masking(current)
            events = self._numbered(self._masked(mask, versions))
            if mask is not None:
                idempotency_key = mask.digest(idempotency_key)
        except KeysAwayError as error:
            self._failed(str(error))
            raise DeliveryDeferred(str(error)) from None
        try:
            receipt = shared.channel.notify(
                subscription,
                standing(shared, subscription, shared.outbox.made(self.name)),
                events,
                idempotency_key,
            )
        except UnreachableError as error:
            shared.unreachable(subscription.channel.endpoint)
            self._failed(str(error))
            raise
        except DeliveryDeferred as error:
            shared.failing(subscription.channel.endpoint, error.retry_after)
            self._failed(str(error))
            raise
        self._failures = 0
        shared.well(subscription.channel.endpoint)
        if state.status is Status.ERROR:
            subscription_status.report_recovery(shared.outbox, self._key)
        # A digest of what was sent would tie it to its source.
        return receipt if mask is None else f"{mask.recipient} {mask.digest(receipt)}"

    def close(self) -> None:
        """The channel is shared, and closed by whoever owns it."""

    def _check_visible(self, current: Version, versions: Sequence[Version]) -> None:
        """What was to be told when it was queued may have been withdrawn since."""
        shown = {version.sequence for version in self._shared.visible(current, versions)}
        hidden = {version.sequence for version in versions} - shown
        if hidden:
            raise DeliveryWithheld("the subscriber may not see it", hidden)

    def _masked(self, mask: Mask | None, versions: Sequence[Version]) -> Sequence[Version]:
        """What the subscriber's policy leaves of each."""
        if mask is None:
            return versions
        given: dict[int, Version] = {}
        for version in versions:
            made = mask.version(version, version_before(self._shared.outbox, version))
            if made is not None:
                given[version.sequence] = made
        hidden = {version.sequence for version in versions} - given.keys()
        if hidden:
            raise DeliveryWithheld(NOTHING_LEFT, hidden)
        return list(given.values())

    def _numbered(self, versions: Sequence[Version]) -> list[Event]:
        """Each version with its place among all that the subscription ever was to get."""
        events: list[Event] = []
        for version in sorted(versions, key=lambda version: version.sequence):
            sequence, number = self._counted
            if version.sequence < sequence:
                sequence, number = 0, 0
            number += self._shared.outbox.made(self.name, sequence, version.sequence)
            self._counted = (version.sequence, number)
            events.append(Event(number, version))
        return events

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures >= TROUBLE_AFTER:
            subscription_status.report_trouble(self._shared.outbox, self._key, reason)


class HandshakeSink:
    """Asks a subscription's endpoint whether it wants the events, and writes the answer."""

    def __init__(self, shared: Surroundings, key: ResourceKey) -> None:
        self._shared = shared
        self._key = key

    @property
    def name(self) -> str:
        return f"{self._key}{HANDSHAKE}"

    @property
    def batch_size(self) -> int:
        return 1

    def group(self, version: Version) -> str | None:
        return None

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        """One handshake; `versions` is the one that requests it."""
        shared, (request,) = self._shared, versions
        current = shared.outbox.read(self._key)
        if current is None or current.version_id != request.version_id:
            return "a newer version took its place"
        shared.book.catch_up()
        state = shared.book.now(self._key)
        if state is None or state.subscription is None:
            reason = "what it asks for cannot be evaluated"
            subscription_status.answer_request(shared.outbox, request, Status.ERROR, reason)
            raise DeliveryRejected(reason)
        subscription = state.subscription
        if not subscription.is_pushed:
            subscription_status.answer_request(shared.outbox, request, Status.ACTIVE)
            return "the client comes by websocket"
        try:
            receipt = shared.channel.handshake(
                subscription, standing(shared, subscription, shared.outbox.made(str(self._key)))
            )
        except DeliveryRejected as error:
            self._refuse(request, str(error))
            raise
        except DeliveryDeferred as error:
            if self._attempts(request) >= HANDSHAKE_ATTEMPTS:
                self._refuse(request, str(error))
                raise DeliveryRejected(str(error)) from None
            raise
        subscription_status.answer_request(shared.outbox, request, Status.ACTIVE)
        return receipt

    def close(self) -> None:
        """The channel is shared, and closed by whoever owns it."""

    def _refuse(self, request: Version, reason: str) -> None:
        subscription_status.answer_request(
            self._shared.outbox, request, Status.ERROR, f"the handshake failed: {reason}"
        )

    def _attempts(self, request: Version) -> int:
        sent = self._shared.outbox.list(self.name, (DeliveryState.SENT,), 1_000, 0)
        return max((each.attempts for each in sent if each.sequence == request.sequence), default=1)
