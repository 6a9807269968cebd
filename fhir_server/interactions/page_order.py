"""The order of a page whose places come from several sources: sorted as a store does."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from fhir_server.core.search.query import Cursor, Query, SortKey
from fhir_server.core.version import Version
from fhir_server.store import page_ends
from fhir_server.store.protocol import Page


class Place(NamedTuple):
    """Where a version stands in an order; the cursor of a page may stand there without one."""

    cursor: Cursor
    version: Version | None


def merge(query: Query, pages: Sequence[Page]) -> Page:
    """The page that `pages`, each asked for from the same place, have together."""
    places = in_order(
        [
            Place(cursor, version)
            for page in pages
            for cursor, version in zip(page.cursors, page.versions, strict=True)
        ],
        query.sort,
    )
    is_more = any(page.next if query.before is None else page.previous for page in pages)
    totals = [page.total for page in pages if page.total is not None]
    return cut(query, places, pages[0].as_of, sum(totals) if totals else None, is_more=is_more)


def cut(
    query: Query,
    places: Sequence[Place],
    as_of: int,
    total: int | None,
    *,
    is_more: bool = False,
) -> Page:
    """The page of `query` among `places` in their order; `is_more`: beyond them there are more."""
    count = max(query.count, 0)
    is_more = is_more or len(places) > count
    shown = places[:count] if query.before is None else places[max(len(places) - count, 0) :]
    cursors = tuple(place.cursor for place in shown)
    ends = page_ends.find(query, cursors, is_more=is_more)
    versions = tuple(place.version for place in shown if place.version is not None)
    return Page(versions, as_of, ends.next, total, ends.previous, cursors)


def in_order(places: list[Place], sort: Sequence[SortKey]) -> list[Place]:
    """Sorted as a store sorts: what has no value last in both directions, ties by sequence."""
    is_descending = bool(sort) and sort[-1].descending
    places.sort(key=attrgetter("cursor.sequence"), reverse=is_descending)
    for number, key in reversed(tuple(enumerate(sort))):
        valued = [(v, p) for p in places if (v := p.cursor.values[number]) is not None]
        valued.sort(key=lambda pair: pair[0], reverse=key.descending)
        without = [place for place in places if place.cursor.values[number] is None]
        places = [*(place for _, place in valued), *without]
    return places
