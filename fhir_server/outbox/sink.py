"""The port through which an adapter delivers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.outbox.mask import Mask

DELIVERY_SECONDS = 60.0
"""What one `deliver` may take: a sink keeps its own deadline."""


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


@runtime_checkable
class Attentive(Protocol):
    """A sink that also acts as time passes: a period ends, an answer does not come."""

    def attend(self) -> None:
        """Do what is due, if it is time to look; most calls do nothing.

        Called between deliveries, on the sink's own thread, in every worker: what two of
        them do at once must be as if one had.
        """
        ...


class Records(Protocol):
    """What a sink may ask of the store, and the one thing it may write. Blocking."""

    def read(self, key: ResourceKey, version_id: int | None = None) -> Version | None:
        """That version, by default the current one; None for what never was."""
        ...

    def search(
        self, resource_type: str, params: Sequence[tuple[str, str]], limit: int
    ) -> Iterator[Resource]:
        """Current resources as a search over HTTP finds them, up to `limit`.

        Raises:
            InvalidSearch: a parameter cannot be applied.
            TooCostly: it looked at more than one request may.
        """
        ...

    def newer(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        """The newest sequence and the versions of these types behind `after`, oldest first."""
        ...

    def answer(self, request: Version, resources: Sequence[Resource]) -> bool:
        """Store `resources`, all or none, if `request` is still the current version of its own.

        Each has its id; one that is there gets a new version. False says that somebody has
        changed the request, and nothing was stored. For the answer to a request that came
        as a resource: what a sink is asked, it answers where it was asked.
        """
        ...


class Access(NamedTuple):
    """What an adapter is made with, beside its own section of the settings.

    `base_url` is the FHIR base of this server, "" if it is not set; `time_zone` the IANA
    name of where bare dates are. With a `mask` nothing is told but through it; adapters from
    other packages need not: what they are shown is masked.
    """

    records: Records
    now: Callable[[], datetime]
    allow_private_endpoints: bool = False
    base_url: str = ""
    time_zone: str = "Europe/Moscow"
    mask: Mask | None = None


SinkFactory = Callable[[Mapping[str, Any], Access], Sink]
"""An adapter's `from_settings`: its section of the settings, and what it may use.

It raises ValueError for a setting that is wrong, with the name of the setting.
"""
