"""Merged searches: one page of several types, in one order and of one moment.

Each type is asked for a page of its own from the same place. The commit sequence, which
comes last in every order, is unique over all types, so a place in the order of one type is
a place in the order of all.
"""

import asyncio
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from fhir_server.core.search.query import Cursor, Query, SortKey
from fhir_server.core.version import Version
from fhir_server.interactions.context import Context
from fhir_server.store import page_ends
from fhir_server.store.protocol import Page

# A store on another machine answers several at a time.
_AT_ONCE = 16
_OWN_ORDER = "AuditEvent"


class _Place(NamedTuple):
    cursor: Cursor
    version: Version


async def search(ctx: Context, queries: Sequence[Query]) -> Page:
    """The page that `queries`, which differ in their types alone, have together.

    Raises:
        FhirError: what the store raises.
    """
    if len(queries) == 1:
        return await ctx.store.search(queries[0])
    if queries[0].resource_type == _OWN_ORDER:
        # Asked for alone, and so is what is asked first, it has more than the store's own.
        queries = [queries[1], queries[0], *queries[2:]]
    first = await ctx.store.search(queries[0])
    pages = [first]
    for start in range(1, len(queries), _AT_ONCE):
        pages += await asyncio.gather(
            *(
                ctx.store.search(query._replace(as_of=first.as_of))
                for query in queries[start : start + _AT_ONCE]
            )
        )
    return _merge(queries[0], pages)


def _merge(query: Query, pages: Sequence[Page]) -> Page:
    places = _in_order(
        [
            _Place(*place)
            for page in pages
            for place in zip(page.cursors, page.versions, strict=True)
        ],
        query.sort,
    )
    count = max(query.count, 0)
    if query.before is None:
        shown = places[:count]
        is_more = len(places) > count or any(page.next for page in pages)
    else:
        shown = places[max(len(places) - count, 0) :]
        is_more = len(places) > count or any(page.previous for page in pages)
    cursors = tuple(place.cursor for place in shown)
    ends = page_ends.find(query, cursors, is_more=is_more)
    totals = [page.total for page in pages if page.total is not None]
    return Page(
        tuple(place.version for place in shown),
        pages[0].as_of,
        ends.next,
        sum(totals) if totals else None,
        ends.previous,
        cursors,
    )


def _in_order(places: list[_Place], sort: Sequence[SortKey]) -> list[_Place]:
    """Sorted as a store sorts: what has no value last in both directions, ties by sequence."""
    is_descending = bool(sort) and sort[-1].descending
    places.sort(key=attrgetter("cursor.sequence"), reverse=is_descending)
    for number, key in reversed(tuple(enumerate(sort))):
        valued = [(v, p) for p in places if (v := p.cursor.values[number]) is not None]
        valued.sort(key=lambda pair: pair[0], reverse=key.descending)
        without = [place for place in places if place.cursor.values[number] is None]
        places = [*(place for _, place in valued), *without]
    return places
