"""SecurityStore: the door to registrations, and to what is remembered for a while.

Apart from the resources, so that whoever reads, exports or restores these has nobody's keys.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, Protocol

Document = dict[str, Any]

Change = Callable[[Document | None], Document | None]
"""From the document as it is, None if there is none, to what it shall be, None to have none."""


class Registration(NamedTuple):
    """`name` is its own among those of a kind."""

    name: str
    document: Document


class SecurityStore(Protocol):
    """For any thread. Two halves: registrations, every change of which is a new revision for
    all processes, and passing things, that a moment ends and of which nobody else needs news.

    Every method raises `StoreUnavailable` where the store is away.
    """

    @property
    def is_near(self) -> bool:
        """Whether a look at it costs less than leaving the event loop."""
        ...

    def revision(self) -> int:
        """What changes with every change of a registration, in any process, once it is durable."""
        ...

    def find(self, kind: str, name: str) -> Document | None: ...

    def list(self, kind: str) -> list[Registration]:
        """By name."""
        ...

    def change(self, kind: str, name: str, decide: Change) -> Document | None:
        """What `decide` makes of the registration, durable; it may run again, and nobody else's
        change comes between. What it raises leaves everything as it was.
        """
        ...

    def keep(self, kind: str, name: str, document: Document, until: datetime) -> bool:
        """Remember until then; False, and nothing done, if there is one that is not over."""
        ...

    def look(self, kind: str, name: str) -> Document | None:
        """What is remembered and not over."""
        ...

    def amend(self, kind: str, name: str, decide: Change) -> Document | None:
        """`change` of what is remembered and not over; its end stays where it is."""
        ...

    def close(self) -> None: ...
