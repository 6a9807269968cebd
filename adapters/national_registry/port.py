"""What the registry's sinks are given of the server: reading, deciding, the clock.

They are the store's own functions; what is not used here is left out of the types.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Cursor, Query
from fhir_server.core.version import Version
from fhir_server.outbox.mask import Mask

T = TypeVar("T")


class Found(Protocol):
    """One page of a search."""

    @property
    def versions(self) -> Sequence[Version]: ...

    @property
    def as_of(self) -> int: ...

    @property
    def next(self) -> Cursor | None: ...


class Transaction(Protocol):
    """The committed state, and what is put into it. What uses it may run twice."""

    @property
    def now(self) -> datetime: ...

    def read(self, key: ResourceKey) -> Version | None: ...

    def search(self, query: Query) -> Found: ...

    def find(
        self, resource_type: str, identifiers: Iterable[tuple[str | None, str]]
    ) -> dict[tuple[str | None, str], tuple[ResourceKey, ...]]: ...

    def put(self, version: Version, resource: Resource | None) -> None: ...


class Read(Protocol):
    """A version of a resource, by default the current one; blocking."""

    def __call__(self, key: ResourceKey, version_id: int | None = None) -> Version | None: ...


class Commit(Protocol):
    """Run a decision and make its puts durable; blocking, never on an event loop."""

    def __call__(self, decide: Callable[[Transaction], T]) -> T: ...


class CommitAsync(Protocol):
    """The same for a request."""

    async def __call__(self, decide: Callable[[Transaction], T]) -> T: ...


class State(Protocol):
    """What a sink's delivery of the version at a sequence has come to; None without one."""

    def __call__(self, sink: str, sequence: int) -> str | None: ...


class Surroundings(NamedTuple):
    """The server around an adapter. `time_zone` is the zone of dates without one.

    With a `mask` nothing is told but through it.
    """

    read: Read
    state: State
    commit: Commit
    parameters: SearchParameters
    now: Callable[[], datetime]
    time_zone: str = "Europe/Moscow"
    allow_private_endpoints: bool = False
    mask: Mask | None = None
