"""Terminology: value sets, code systems and concept maps that are stored here.

A search that needs none pays nothing: what is missing is looked for when reading the search
says so, and the search is read again. What was found is kept until a definition changes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from fhir_server.core import reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import (
    UNRESTRICTED,
    Clause,
    Query,
    SortKey,
    TokenValue,
    UriValue,
    Value,
)
from fhir_server.core.terminology.code_system import CodeSystem
from fhir_server.core.terminology.terminology import NotLoaded
from fhir_server.core.version import Version
from fhir_server.interactions.context import Context

T = TypeVar("T")

# What one question may have looked for: sets are made of sets.
_MOST_DEFINITIONS = 100
_FRAGMENTS_AT_ONCE = 10


async def with_terminology(ctx: Context, read: Callable[[Context], T]) -> T:
    """What `read` makes of a search, given the definitions that it turns out to need.

    Raises:
        NotLoaded: there is no such definition, or there are too many.
    """

    async def read_here(ctx: Context) -> T:
        return read(ctx)

    return await _with_definitions(ctx, read_here)


async def with_terminology_aside(ctx: Context, read: Callable[[Context], T]) -> T:
    """As `with_terminology`, for what may take long: `read` runs on another thread."""
    return await _with_definitions(ctx, lambda ctx: asyncio.to_thread(read, ctx))


async def _with_definitions(ctx: Context, read: Callable[[Context], Awaitable[T]]) -> T:
    try:
        return await read(ctx)
    except NotLoaded as missing:
        asked: NotLoaded | None = missing
    shelf = ctx.shelf if ctx.principal.restriction == UNRESTRICTED else None
    changes = 0
    if shelf is not None:
        known, changes = await asyncio.to_thread(shelf.current)
        ctx, asked = replace(ctx, terminology=known), None
    for _ in range(_MOST_DEFINITIONS):
        if asked is not None:
            found = await _find(ctx, asked)
            if found is None and asked.resource_type == "ValueSet" and ctx.remote_terminology:
                found = await asyncio.to_thread(ctx.remote_terminology.expansion, asked.url)
                shelf = None  # how long its answers are kept is that server's client's affair
            ctx = replace(ctx, terminology=ctx.terminology.having(asked, found))
            if shelf is not None:
                shelf.keep(ctx.terminology, changes)
        try:
            return await read(ctx)
        except NotLoaded as missing:
            asked = missing
    return await read(ctx)


async def _find(ctx: Context, missing: NotLoaded) -> Resource | CodeSystem | None:
    """The definition as it is now, the last written where several have the URL."""
    resource_type = missing.resource_type
    named = reference.parse(missing.url)
    if named is not None and named.is_local:
        if named.resource_type != resource_type:
            return None
        shipped = ctx.shipped.get(ResourceKey(resource_type, named.resource_id))
        if shipped is not None:
            return shipped.resource()
        found = await _newest(ctx, resource_type, (("_id", TokenValue(None, named.resource_id)),))
        return await _whole(ctx, found) if found else None
    url, _, version = missing.url.partition("|")
    criteria: tuple[tuple[str, Value], ...] = (("url", UriValue(url)),)
    if version:
        criteria += (("version", TokenValue(None, version)),)
    if resource_type != "CodeSystem":
        return await _newest(ctx, resource_type, criteria)
    found = await _newest(ctx, resource_type, criteria, is_fragment=False)
    found = found or await _newest(ctx, resource_type, criteria)
    return await _whole(ctx, found) if found else None


async def _whole(ctx: Context, resource: Resource) -> Resource | CodeSystem:
    """A code system with the concepts that stand in its fragments, a few fragments at a time."""
    if resource["resourceType"] != "CodeSystem":
        return resource
    whole = await asyncio.to_thread(CodeSystem, resource)
    criteria: tuple[tuple[str, Value], ...] = (("url", UriValue(whole.url)),)
    if whole.version:
        criteria += (("version", TokenValue(None, whole.version)),)
    query = _query(ctx, "CodeSystem", criteria, is_fragment=True) if whole.is_short else None
    while query is not None:
        page = await ctx.store.search(query)
        for version in page.versions:
            await asyncio.to_thread(_add, whole, version)
        query = page.next and query._replace(after=page.next, as_of=page.as_of)
    return whole


def _add(whole: CodeSystem, version: Version) -> None:
    whole.add(version.resource())


async def _newest(
    ctx: Context,
    resource_type: str,
    criteria: Sequence[tuple[str, Value]],
    *,
    is_fragment: bool | None = None,
) -> Resource | None:
    query = _query(ctx, resource_type, criteria, is_fragment=is_fragment)
    if query is None:
        return None
    page = await ctx.store.search(query._replace(count=1))
    return page.versions[0].resource() if page.versions else None


def _query(
    ctx: Context,
    resource_type: str,
    criteria: Sequence[tuple[str, Value]],
    *,
    is_fragment: bool | None,
) -> Query | None:
    asked = [(name, "", value) for name, value in criteria]
    if is_fragment is not None:
        asked.append(("content-mode", "" if is_fragment else "not", TokenValue(None, "fragment")))
    clauses = tuple(
        Clause(parameter, modifier, (value,))
        for name, modifier, value in asked
        if (parameter := ctx.parameters.get(resource_type, name)) is not None
    )
    updated = ctx.parameters.get(resource_type, "_lastUpdated")
    if len(clauses) < len(asked) or updated is None:
        return None
    # Fragments in the order in which they were written, else the newest.
    return Query(
        resource_type,
        clauses,
        (SortKey(updated, descending=is_fragment is not True),),
        count=_FRAGMENTS_AT_ONCE,
        restriction=ctx.principal.restriction,
    )


async def stored_maps(ctx: Context, most: int) -> list[Resource]:
    """The ConceptMaps that are stored here, the newest first."""
    query = _query(ctx, "ConceptMap", (), is_fragment=None)
    if query is None:
        return []
    page = await ctx.store.search(query._replace(count=most))
    return [version.resource() for version in page.versions]
