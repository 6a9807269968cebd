"""Store, Transaction, Outbox: the only doors to storage.

Every change goes through `Store.commit` with a *decision*: a plain function of a
`Transaction` that reads what it depends on and puts versions. Decisions that arrive
together are committed together; each succeeds or fails alone, and may run again, so
it has no effect but its puts. The committed versions, in order, are the outbox's
events: a change and the news of it are one write.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.store.ledger import Delivery as Delivery
from fhir_server.store.ledger import DeliveryEvent as DeliveryEvent
from fhir_server.store.ledger import DeliveryState as DeliveryState
from fhir_server.store.ledger import Ledger
from fhir_server.store.pages import FirstPage as FirstPage
from fhir_server.store.pages import HistoryQuery as HistoryQuery
from fhir_server.store.pages import Page as Page
from fhir_server.store.trail import Trail, TrailEntry

T = TypeVar("T")

Decision = Callable[["Transaction"], T]


class Transaction(Protocol):
    """What a decision sees: the committed state and what was put before it."""

    @property
    def now(self) -> datetime:
        """The commit's time: UTC, whole milliseconds, never before a stored version's.

        So the order of `last_updated` and of the commit sequence never disagree.
        """
        ...

    def read(self, key: ResourceKey) -> Version | None:
        """The current version (it may be a deletion), or None for what never was."""
        ...

    def read_many(self, keys: Sequence[ResourceKey]) -> dict[ResourceKey, Version]:
        """The current versions of those that exist and are not deleted, in a few look-ups."""
        ...

    def search(self, query: Query) -> Page: ...

    def find(
        self, resource_type: str, identifiers: Iterable[tuple[str | None, str]]
    ) -> dict[tuple[str | None, str], tuple[ResourceKey, ...]]:
        """Current resources by identifier `(system, value)`, many at once.

        A system of None is any. An identifier that nothing has is not in the answer.
        """
        ...

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        """The newest sequence and the versions of these types behind `after`, oldest first.

        Lets a reader keep a view of a few types (who has which device) current at the
        price of one look-up a commit. Sees what was put before in this commit.
        """
        ...

    def put(self, version: Version, resource: Resource | Filled | None) -> None:
        """Store `version` with its index entries; `resource` is its parsed body, or its form.

        `version` must follow the version that `read` gives.
        """
        ...

    def record(self, entries: Sequence[TrailEntry]) -> None:
        """Put records behind the newest of the audit trail, in this commit (ADR 0030)."""
        ...


class CommittedGroup(NamedTuple):
    """What one group commit was: for whoever counts, not for whoever asked.

    `seconds` is from its first decision until it was durable.
    """

    decisions: int
    versions: int
    seconds: float


class Store(Protocol):
    """Versions of resources, in one commit order."""

    @property
    def trail(self) -> Trail:
        """The records of who did what, which only `Transaction.record` adds to."""
        ...

    async def commit(self, decide: Decision[T]) -> T:
        """Run `decide` and make its puts durable; its answer, or what it raised.

        Raises:
            StoreUnavailable: the store is away, or too busy; nothing was kept.
        """
        ...

    async def read(self, key: ResourceKey) -> Version | None:
        """The current version (it may be a deletion), or None for what never was."""
        ...

    async def read_many(self, keys: Sequence[ResourceKey]) -> tuple[Version, ...]:
        """The current versions of those that exist and are not deleted."""
        ...

    async def vread(self, key: ResourceKey, version_id: int) -> Version | None: ...

    async def history(self, query: HistoryQuery) -> Page:
        """Versions in order; `next.sequence` goes into `before`, or `after` if oldest first."""
        ...

    async def search(self, query: Query) -> Page:
        """One page of matches.

        Raises:
            TooCostly: it looked at more than one request may.
        """
        ...

    async def first_page(self, query: Query) -> FirstPage | None:
        """What `search` finds, where the store has a shorter way to it; None: it has none.

        Raises:
            StoreUnavailable: the store is away.
        """
        ...

    async def explain(self, query: Query) -> tuple[str, ...]:
        """How `query` runs, in lines for an operator: indexes used, how much is looked at.

        Nothing of the query's values or of a resource is in them.

        Raises:
            TooCostly: it looked at more than one request may.
        """
        ...

    async def changes(self, after: int, limit: int) -> tuple[Version, ...]:
        """Versions in commit order behind sequence `after`, deletions included."""
        ...

    async def keep(self, name: str, sealed: str) -> None:
        """Keep a text under a name, as long as page links live from now on; durable.

        Raises:
            StoreUnavailable: it could not be kept.
        """
        ...

    async def kept(self, name: str) -> str | None:
        """The text that any process keeps under `name`, or None when its time is over."""
        ...

    def observe(self, observer: Callable[[CommittedGroup], None]) -> None:
        """Tell `observer` of each group that is committed from now on.

        It is called on the thread that commits, when those who waited have been told: it is
        short and raises nothing.
        """
        ...

    async def is_ready(self) -> bool:
        """Whether a commit would work now."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go of everything."""
        ...


Extend = Callable[[Sequence[Resource]], SearchDefinitions]
"""What to index by when these SearchParameter resources are live."""


class Definable(Protocol):
    """A store whose search parameters can be added to while it is used."""

    @property
    def definitions(self) -> SearchDefinitions:
        """What can be searched by, as far as this process knows."""
        ...

    async def refresh(self) -> bool:
        """Look whether another process has changed the definitions; True if they are new."""
        ...

    async def reindex(
        self,
        report: Callable[[int], None] = ...,
        live: Sequence[Resource] | None = None,
    ) -> None:
        """Compute all index entries anew, beside the work; goes on where it was interrupted.

        `live` are the SearchParameter resources that can be searched by from its end on, by
        default those that are now. Until then every search finds what it did before.
        `report` is told, on whichever thread, how far in the commit order it is.
        """
        ...


class Extent(NamedTuple):
    """How far a store goes: its newest sequence, and the last that the outbox looked at.

    Where kinds of sinks stand at different places it is the first of them.
    """

    newest: int
    outbox: int


class Archive(Protocol):
    """A store as a whole, for whoever moves it to another."""

    async def extent(self) -> Extent: ...

    async def restore(self, versions: Sequence[Version], delivered: int) -> None:
        """Store `versions` as they are: sequence, version, time and bytes; all or none.

        They follow each other and what is stored; a thousand at once is a good number.
        The outbox makes no deliveries of those up to the sequence `delivered`, unless it
        has yet to look at something before them.

        Raises:
            VersionConflict: they do not follow what is stored.
            InvalidResource: a body is not that of its version.
            StoreUnavailable: the store is away, or too busy; nothing was kept.
        """
        ...


class Routed(NamedTuple):
    """A sink that wants a version, and the group it sends it in.

    `patient` is whom the version is about ("Patient/42"), "" for nobody: the ledger can be
    asked for it.
    """

    sink: str
    group: str
    patient: str = ""


class Outbox(Ledger, Protocol):
    """Deliveries: made from the commit order, claimed under a lease, kept as a ledger.

    Plain blocking calls, safe from any thread: the delivery path is not on the loop.
    """

    def fan_out(
        self,
        route: Callable[[Version], Sequence[Routed]],
        limit: int,
        *,
        kind: str = "",
        begin: int = 0,
    ) -> int:
        """Make deliveries for the versions not yet looked at, once each; how many versions.

        `route` may call `read`: what a deletion was about is in the version before it.

        Each `kind` of sink has its own place in the commit order, so that processes which
        know different sinks do not pass over each other's; a new one begins where the store
        does. What came up to the sequence `begin` is nothing to it and is not looked at.
        """
        ...

    def claim(self, sink: str, owner: str, lease: float, limit: int) -> tuple[Delivery, ...]:
        """Deliveries of one group that are due, leased for `lease` seconds.

        A version is not claimed while an earlier one of the same resource is queued or
        sent to the same sink. A lease that ran out makes the delivery claimable again.
        """
        ...

    def acknowledge(self, deliveries: Sequence[Delivery], owner: str, receipt: str) -> None:
        """Delivered. A worker whose lease was taken over changes nothing."""
        ...

    def defer(self, deliveries: Sequence[Delivery], owner: str, delay: float, reason: str) -> None:
        """Not now; due again in `delay` seconds."""
        ...

    def park(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        """Not without a person; `retry` brings it back."""
        ...

    def renew(self, deliveries: Sequence[Delivery], owner: str, lease: float) -> None:
        """They are still being sent: leased for `lease` seconds from now."""
        ...

    def reject(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        """The receiver refused them for good; `retry` brings them back."""
        ...

    def withhold(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        """They may not go there: nothing of them left; `retry` asks anew."""
        ...

    def version(self, delivery: Delivery) -> Version:
        """The version to be delivered."""
        ...

    def read(self, key: ResourceKey, version_id: int | None = None) -> Version | None:
        """That version, by default the current one; None for what never was.

        What a sink sends along: the Patient of an Observation, the state before a change.
        """
        ...

    def oldest_due(self) -> datetime | None:
        """When the oldest waiting delivery was queued: the outbox's age."""
        ...

    def oldest_open(self, sink: str) -> Delivery | None:
        """The first delivery of a sink, in commit order, that is queued or sent."""
        ...

    def state_of(self, sink: str, sequence: int) -> DeliveryState | None:
        """What a sink's delivery of the version at `sequence` has come to; None without one."""
        ...

    def newest(self) -> int:
        """The number of the newest delivery of all sinks; they are made in this order."""
        ...

    def waiting(self, prefix: str) -> tuple[str, ...]:
        """The sinks whose names begin with `prefix` and that have a delivery due now."""
        ...

    def made(self, sink: str, after: int = 0, up_to: int | None = None) -> int:
        """How many deliveries a sink ever had, of versions behind `after` up to `up_to`.

        Deliveries are made in commit order and kept, so what this says of the past never
        changes: it numbers them.
        """
        ...

    def numbered(self, sink: str, first: int, limit: int) -> tuple[Delivery, ...]:
        """Deliveries of a sink in commit order from the `first`th, which counts from 1."""
        ...

    def search(self, query: Query) -> Page:
        """`Store.search` for a thread that may wait; never on an event loop.

        Raises:
            TooCostly: it looked at more than one request may.
        """
        ...

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        """The newest sequence and the versions of these types behind `after`, oldest first."""
        ...

    def commit(self, decide: Decision[T]) -> T:
        """`Store.commit` for a thread that may wait; never on an event loop."""
        ...
