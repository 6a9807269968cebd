"""Trail: the audit records of a store, in a chain of sheets, beside the versions (ADR 0030)."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from fhir_server.core.security.audit_chain import ChainedText, ChainKeys, ChainLink
from fhir_server.core.security.audit_sheet import TrailEntry as TrailEntry


class TrailQuery(NamedTuple):
    """Which sheets: with records of one patient or all, newest first unless `is_oldest_first`.

    `start` and `end` bound the time, in milliseconds since 1970, both belonging to it.
    `beyond` is the sheet that the page goes on behind, in its order.
    """

    patient: str | None = None
    start: int | None = None
    end: int | None = None
    beyond: int | None = None
    is_oldest_first: bool = False
    limit: int = 100


class TrailEnds(NamedTuple):
    """What was pruned last, and the newest: the chain is what lies between.

    `key` is the id of the key that it goes on with.
    """

    pruned: ChainLink
    newest: ChainLink
    key: str = ""


class Trail(Protocol):
    """Reading the sheets, and letting go of old ones.

    Raises:
        StoreUnavailable: the store is away.
    """

    @property
    def keys(self) -> ChainKeys:
        """What the chain is made with."""
        ...

    async def find(self, sequence: int) -> ChainedText | None: ...

    async def search(self, query: TrailQuery) -> tuple[ChainedText, ...]: ...

    async def ends(self) -> TrailEnds: ...

    async def newest_before(self, when: datetime) -> ChainLink | None:
        """The newest sheet from before `when`; None: there is none left."""
        ...

    async def turn_key(self, key_id: str, entries: Sequence[TrailEntry]) -> None:
        """Go on with another key in every process: `entries` are the last of the old one and,
        once more, the first of the new.

        Raises:
            StoreUnavailable: one of the two is not among `keys`.
        """
        ...

    async def prune(self, up_to: ChainLink, entries: Sequence[TrailEntry]) -> None:
        """Remove sheets up to `up_to`, and say so with `entries`, which come first.

        Told and decided in one commit, removed after it: where it is cut off, sheets are
        left over that the chain no longer counts, and the next call removes them.

        Raises:
            VersionConflict: there is no such sheet any more.
        """
        ...
