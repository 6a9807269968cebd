"""Pages: what a search or a history is asked for, and what it answers."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.query import Cursor
from fhir_server.core.version import Version


class Page(NamedTuple):
    """One page of a search. `next` is None on the last; `total` where it was asked for.

    `previous` is what the page before this one ends at, None on the first. `cursors` are
    the places of the versions in the order that was asked for; a history has none.
    """

    versions: tuple[Version, ...]
    as_of: int
    next: Cursor | None = None
    total: int | None = None
    previous: Cursor | None = None
    cursors: tuple[Cursor, ...] = ()


class FirstPage(NamedTuple):
    """What is shown of the first page of a search: the bodies of its versions, in their order."""

    bodies: Sequence[bytes]
    as_of: int
    next: Cursor | None = None


class HistoryQuery(NamedTuple):
    """Which versions: of one resource, one type, or all; newest first, or oldest first.

    `since` bounds `last_updated`; `at` wants what was current at some moment of it. A page
    holds those next to `before` or `after`, a sequence that another page ended at: newest
    first `before` goes on and `after` goes back, oldest first the other way round. `as_of`
    binds the pages to one moment.
    """

    resource_type: str | None = None
    resource_id: str | None = None
    since: datetime | None = None
    at: DateRange | None = None
    count: int = 50  # type: ignore[assignment]  # FHIR's word; nobody counts in a query
    before: int | None = None
    as_of: int | None = None
    after: int | None = None
    is_oldest_first: bool = False

    @property
    def is_upward(self) -> bool:
        """Whether the page is read from older to newer."""
        return self.after is not None or (self.is_oldest_first and self.before is None)
