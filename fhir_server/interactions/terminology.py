"""Terminology: value sets and code systems that are stored here, for searches that name them.

A search that needs none pays nothing: what is missing is looked for when reading the search
says so, and the search is read again.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from fhir_server.core import reference
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Clause, Query, SortKey, TokenValue, UriValue, Value
from fhir_server.core.terminology.terminology import NotLoaded
from fhir_server.interactions.context import Context

T = TypeVar("T")

# What one search may have looked for: sets are made of sets.
_MOST_DEFINITIONS = 50


async def with_terminology(ctx: Context, read: Callable[[Context], T]) -> T:
    """What `read` makes of a search, given the definitions that it turns out to need.

    Raises:
        NotLoaded: there is no such definition, or there are too many.
    """
    for _ in range(_MOST_DEFINITIONS):
        try:
            return read(ctx)
        except NotLoaded as missing:
            found = await _find(ctx, missing)
            ctx = replace(ctx, terminology=ctx.terminology.having(missing, found))
    return read(ctx)


async def _find(ctx: Context, missing: NotLoaded) -> Resource | None:
    """The definition as it is now, the last written where several have the URL."""
    resource_type = missing.resource_type
    parameters = ctx.parameters
    named = reference.parse(missing.url)
    clauses: list[tuple[str, Value]] = []
    if named is not None and named.is_local:
        if named.resource_type != resource_type:
            return None
        clauses.append(("_id", TokenValue(None, named.resource_id)))
    else:
        url, _, version = missing.url.partition("|")
        clauses.append(("url", UriValue(url)))
        if version:
            clauses.append(("version", TokenValue(None, version)))
    criteria = tuple(
        Clause(parameter, "", (value,))
        for name, value in clauses
        if (parameter := parameters.get(resource_type, name)) is not None
    )
    updated = parameters.get(resource_type, "_lastUpdated")
    if len(criteria) < len(clauses) or updated is None:
        return None
    page = await ctx.store.search(
        Query(
            resource_type,
            criteria,
            (SortKey(updated, descending=True),),
            count=1,
            restriction=ctx.principal.restriction,
        )
    )
    return page.versions[0].resource() if page.versions else None
