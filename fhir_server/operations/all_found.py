"""Everything that a search finds, for operations that compute from it; bounded."""

from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.errors import TooCostly
from fhir_server.interactions.context import Context

PAGE = 1_000


async def find_all(ctx: Context, query: Query, most: int, too_many: str) -> list[Version]:
    """What `query` finds, in its order.

    Raises:
        TooCostly: more than about `most` are found; `too_many` says what to ask instead.
    """
    query = query._replace(count=PAGE)
    found: list[Version] = []
    while True:
        page = await ctx.store.search(query)
        found += page.versions
        if page.next is None:
            return found
        if len(found) >= most:
            raise TooCostly(too_many)
        query = query._replace(after=page.next, as_of=page.as_of)
