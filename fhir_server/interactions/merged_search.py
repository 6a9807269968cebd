"""Merged searches: one page of several types, in one order and of one moment.

Each type is asked for a page of its own from the same place. The commit sequence, which
comes last in every order, is unique over all types, so a place in the order of one type is
a place in the order of all. What is shipped of a type is one more such page.
"""

import asyncio
from collections.abc import Sequence

from fhir_server.core.search.query import Query
from fhir_server.interactions.context import Context
from fhir_server.interactions.page_order import merge
from fhir_server.store.protocol import Page

# A store on another machine answers several at a time.
_AT_ONCE = 16
_OWN_ORDER = "AuditEvent"


async def search(ctx: Context, queries: Sequence[Query]) -> Page:
    """The page that `queries`, which differ in their types alone, have together.

    Raises:
        FhirError: what the store raises.
    """
    if len(queries) > 1 and queries[0].resource_type == _OWN_ORDER:
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
    pages += [
        ctx.shipped.page(query, first.as_of)
        for query in queries
        if query.resource_type in ctx.shipped.resource_types
    ]
    return first if len(pages) == 1 else merge(queries[0], pages)
