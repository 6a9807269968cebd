"""One Subscription bound to one websocket: its events in commit order, told from the ledger.

A binding follows the ledger by itself, so it hears of everything whichever process commits,
fans out or holds another socket of the same Subscription. It begins at the first event that
nobody has taken. Claims only write down what became of the events.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from fhir_server.core import resource_json
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.identity import ResourceKey
from fhir_server.core.notification import Event, Kind, Standing, notification
from fhir_server.core.notification_text import encode
from fhir_server.core.security import subscriber
from fhir_server.core.subscription import Content, Status, Subscription
from fhir_server.core.version import Version
from fhir_server.errors import DeliveryWithheld, InvalidResource, NotAcceptable
from fhir_server.outbox.subscription_sink import version_before
from fhir_server.outbox.telling import Masking, Visible, everything, unmasked
from fhir_server.store.protocol import Delivery, DeliveryState, Outbox

_LEASE = 10.0
_TOLD = (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.ACCEPTED)


class Refusal(ValueError):
    """A Subscription that cannot be bound here."""


class SocketSurroundings(NamedTuple):
    """What the bindings of one process share. `owner` is its name in the ledger."""

    outbox: Outbox
    read: Callable[[Version], Subscription]
    now: Callable[[], datetime]
    base_url: str
    element_types: ElementTypes
    owner: str
    visible: Visible = everything
    masking: Masking = unmasked


class Told(NamedTuple):
    """What a look at the ledger found: a text for the client, and the events it tells."""

    text: str
    deliveries: tuple[Delivery, ...]


class SocketBinding:
    """Blocking; one thread at a time. `is_bare` is R4's: it says only that something is new."""

    def __init__(self, shared: SocketSurroundings, key: ResourceKey, *, by_token: bool) -> None:
        self._shared = shared
        self._version_id = 0
        self._subscription: Subscription | None = None
        self._current: Version | None = None
        self._place = self._number = 0
        self.key = key
        self.sink = str(key)
        subscription = self.subscription()
        if subscription is None:
            raise Refusal("no websocket Subscription of this id listens")
        self.is_bare = subscription.channel.content is None
        current = self._current
        is_owned = current is not None and subscriber.read(current.resource()) is not None
        if not by_token and (is_owned or not self.is_bare):
            raise Refusal("this Subscription is bound by bind-with-token")
        self._find_place()

    def subscription(self) -> Subscription | None:
        """What is asked for now; None when it listens no more."""
        current = self._shared.outbox.read(self.key)
        if current is None or current.is_deletion:
            return None
        if current.version_id != self._version_id:
            self._version_id, self._current = current.version_id, current
            try:
                self._subscription = self._shared.read(current)
            except InvalidResource:  # its error says so
                self._subscription = None
        found = self._subscription
        if found is None or found.is_pushed or found.status is Status.OFF:
            return None
        return None if found.is_over(self._shared.now()) else found

    def greeting(self) -> str:
        """What says that it is bound."""
        if self.is_bare:
            return f"bound {self.key.resource_id}"
        return self._notification(Kind.HANDSHAKE, ())

    def heartbeat(self) -> str | None:
        """What says that it lives though nothing happened; R4 has no such thing."""
        return None if self.is_bare else self._notification(Kind.HEARTBEAT, ())

    def look(self) -> Told | None:
        """The next events, as many as one notification may hold; None if there is none yet."""
        subscription = self._subscription
        assert subscription is not None
        found = self._shared.outbox.list(self.sink, (), subscription.channel.max_count, self._place)
        if not found:
            return None
        events = []
        for delivery in found:
            self._number += 1
            # What was parked while it was off, or refused, is asked for by $events.
            if delivery.state in _TOLD:
                version = self._shared.outbox.version(delivery)
                if self._shared.visible(self._current or version, (version,)):
                    given = self._masked(version)
                    events += [] if given is None else [Event(self._number, given)]
        self._place = found[-1].delivery_id
        if not events:
            return Told("", found)
        if self.is_bare:
            return Told(f"ping {self.key.resource_id}", found)
        return Told(self._notification(Kind.EVENT, events), found)

    def _masked(self, version: Version) -> Version | None:
        """What the subscriber's policy leaves of it."""
        assert self._current is not None
        try:
            mask = self._shared.masking(self._current)
        except DeliveryWithheld:
            return None
        if mask is None:
            return version
        return mask.version(version, version_before(self._shared.outbox, version))

    def acknowledge(self, told: Told) -> None:
        """Write down that the client was given them; another socket may have done so."""
        outbox, owner = self._shared.outbox, self._shared.owner
        last = told.deliveries[-1].sequence
        claimed = outbox.claim(self.sink, owner, _LEASE, len(told.deliveries))
        if mine := tuple(each for each in claimed if each.sequence <= last):
            outbox.acknowledge(mine, owner, "websocket")
        if others := tuple(each for each in claimed if each.sequence > last):
            outbox.defer(others, owner, 0.0, "not told yet")

    def _find_place(self) -> None:
        outbox = self._shared.outbox
        if (first := outbox.oldest_open(self.sink)) is not None:
            self._place = first.delivery_id - 1
            self._number = outbox.made(self.sink, 0, first.sequence) - 1
        elif total := outbox.made(self.sink):
            (last,) = outbox.numbered(self.sink, total, 1)
            self._place, self._number = last.delivery_id, total

    def _notification(self, kind: Kind, events: "list[Event] | tuple[()]") -> str:
        subscription = self._subscription
        assert subscription is not None
        standing = Standing(
            self.key,
            subscription.status,
            subscription.topic,
            self._shared.outbox.made(self.sink),
            base_url=self._shared.base_url,
        )
        content = subscription.channel.content or Content.EMPTY

        def text(content: Content) -> str:
            bundle = notification(kind, standing, events, content, self._shared.now())
            body = resource_json.format(bundle)
            return encode(
                subscription.channel.media_type, body, self._shared.element_types
            ).decode()

        try:
            return text(content)
        except NotAcceptable:
            # A resource that XML cannot say is named: the client reads it.
            return text(Content.ID_ONLY)
