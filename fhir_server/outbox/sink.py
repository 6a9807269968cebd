"""The port through which an adapter delivers."""

from collections.abc import Sequence
from typing import Protocol

from fhir_server.core.version import Version

DELIVERY_SECONDS = 60.0
"""What one `deliver` may take. Leases are sized by it, so a sink keeps its own deadline."""


class Sink(Protocol):
    """One receiver. Blocking; each instance is used by one worker thread at a time."""

    @property
    def name(self) -> str:
        """The ledger's word for it, stable across restarts: "national-registry"."""
        ...

    @property
    def batch_size(self) -> int:
        """The most versions it sends at once."""
        ...

    def group(self, version: Version) -> str | None:
        """What `version` is sent together with (a patient's day); None is not wanted."""
        ...

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        """Send them; the receipt.

        Sent again with the same key after a crash or a cut connection, so the
        receiver must be able to tell. Versions of one resource come in order.

        Raises:
            DeliveryDeferred: not now.
            DeliveryRejected: never, as it is.
            DeliveryWithheld: some of them, or all, may not go there.
        """
        ...

    def close(self) -> None:
        """Cut what is under way (it ends as deferred) and let go. Called from another thread."""
        ...
