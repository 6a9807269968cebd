"""Where a page of a search or history ends on both sides; the same for every store."""

from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.search.query import Cursor, Query
from fhir_server.core.version import Version
from fhir_server.store.protocol import HistoryQuery


class PageEnds(NamedTuple):
    """`next` and `previous` of a `Page`."""

    next: Cursor | None
    previous: Cursor | None


def find(query: Query, cursors: Sequence[Cursor], *, is_more: bool) -> PageEnds:
    """The ends of a page whose versions stand at `cursors`.

    `is_more` tells whether the store saw more in the direction that `query` goes; in the
    other there is what the page was asked from.
    """
    if not cursors:
        return PageEnds(None, None)
    first, last = cursors[0], cursors[-1]
    if query.before is not None:
        return PageEnds(last, first if is_more else None)
    return PageEnds(last if is_more else None, None if query.after is None else first)


def find_in_history(query: HistoryQuery, found: Sequence[Version], *, is_more: bool) -> PageEnds:
    """The ends of a page of versions, given in the direction that `query` goes."""
    if not found:
        return PageEnds(None, None)
    near, far = Cursor((), found[0].sequence), Cursor((), found[-1].sequence)
    if query.is_upward != query.is_oldest_first:
        return PageEnds(near, far if is_more else None)
    is_first = query.before is None and query.after is None
    return PageEnds(far if is_more else None, None if is_first else near)
