"""The port through which a subscription's notifications leave."""

from collections.abc import Sequence
from typing import Protocol

from fhir_server.core.notification import Event, Standing
from fhir_server.core.subscription import Subscription
from fhir_server.errors import DeliveryDeferred


class UnreachableError(DeliveryDeferred):
    """The endpoint gave no answer at all: it gives none to its other subscriptions either."""


class NotificationChannel(Protocol):
    """One kind of channel. Blocking; several threads use it at once, for one endpoint each."""

    def handshake(self, subscription: Subscription, standing: Standing) -> str:
        """Ask the endpoint whether it wants the notifications; the receipt.

        Raises:
            DeliveryDeferred, DeliveryRejected: it does not say so.
        """
        ...

    def heartbeat(self, subscription: Subscription, standing: Standing) -> str:
        """Say that the subscription lives though nothing happened; the receipt."""
        ...

    def notify(
        self,
        subscription: Subscription,
        standing: Standing,
        events: Sequence[Event],
        idempotency_key: str,
    ) -> str:
        """Tell `events`; the receipt.

        Raises:
            DeliveryDeferred: not now. `UnreachableError` if there was no answer.
            DeliveryRejected: the endpoint will never take these events.
        """
        ...

    def close(self) -> None:
        """Cut what is under way and let go. Called from another thread."""
        ...
