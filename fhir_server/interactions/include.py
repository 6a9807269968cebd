"""`_include` and `_revinclude`: what the matches refer to, and what refers to them.

Each resource once, as it was at the moment of the search.
https://hl7.org/fhir/R4/search.html#include
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.parameter import SearchParameter, SearchType
from fhir_server.core.search.query import (
    AnyOf,
    Clause,
    Criterion,
    Include,
    Query,
    ReferenceValue,
    TokenValue,
)
from fhir_server.core.version import Version
from fhir_server.interactions.context import Context

# `:iterate` follows references of what was included; a circle ends by itself, a chain here.
_MAX_ROUNDS = 10


class Included(NamedTuple):
    """What belongs to a page beside its matches; `is_complete` False if there was too much."""

    versions: tuple[Version, ...]
    is_complete: bool


async def include(
    ctx: Context, matches: Sequence[Version], includes: Sequence[Include], as_of: int
) -> Included:
    """Everything that `includes` ask for, up to the limit of a page."""
    seen = {version.key for version in matches}
    included: list[Version] = []
    fresh: Sequence[Version] = matches
    for round_ in range(_MAX_ROUNDS):
        found: list[Version] = []
        for asked in includes:
            if round_ and not asked.iterate:
                continue
            room = ctx.limits.page_size - len(included) - len(found)
            for query in _queries(ctx, asked, fresh, seen, as_of, room):
                page = await ctx.store.search(query)
                new = [version for version in page.versions if version.key not in seen]
                if len(new) > room:
                    return Included((*included, *found, *new[:room]), is_complete=False)
                room -= len(new)
                seen.update(version.key for version in new)
                found += new
        if not found:
            return Included(tuple(included), is_complete=True)
        included += found
        fresh = found
    is_complete = not any(asked.iterate for asked in includes)
    return Included(tuple(included), is_complete=is_complete)


def _queries(
    ctx: Context,
    asked: Include,
    fresh: Sequence[Version],
    seen: Iterable[ResourceKey],
    as_of: int,
    room: int,
) -> Iterator[Query]:
    """The searches that find what `asked` means for `fresh`."""
    find = _referring if asked.reverse else _referred
    for resource_type, criterion in find(ctx, asked, fresh, frozenset(seen)):
        # One more than there is room for tells that there is too much; those seen
        # already may be among them.
        count = room + len(fresh) + 1
        yield Query(
            resource_type,
            (criterion,),
            count=count,
            as_of=as_of,
            restriction=ctx.principal.restriction,
        )


def _referred(
    ctx: Context, asked: Include, fresh: Sequence[Version], seen: frozenset[ResourceKey]
) -> Iterator[tuple[str, Criterion]]:
    sources = _sources(ctx, asked)
    wanted: dict[str, dict[str, None]] = {}
    for version in fresh:
        if version.key.resource_type != asked.resource_type:
            continue
        for entry in ctx.index(version.resource()).references:
            key = ResourceKey(entry.resource_type, entry.resource_id)
            if key in seen or not entry.resource_id:
                continue
            if asked.target in (None, key.resource_type) and _is_wanted(
                sources, entry.parameter, key.resource_type
            ):
                wanted.setdefault(key.resource_type, {})[key.resource_id] = None
    for resource_type, resource_ids in wanted.items():
        parameter = ctx.parameters.get(resource_type, "_id")
        if parameter is not None:
            values = tuple(TokenValue(None, resource_id) for resource_id in resource_ids)
            yield resource_type, Clause(parameter, "", values)


def _referring(
    ctx: Context, asked: Include, fresh: Sequence[Version], _seen: frozenset[ResourceKey]
) -> Iterator[tuple[str, Criterion]]:
    values = tuple(
        ReferenceValue(version.key.resource_type, version.key.resource_id)
        for version in fresh
        if asked.target in (None, version.key.resource_type)
    )
    clauses = [
        Clause(parameter, "", fitting)
        for parameter in _parameters(ctx, asked)
        if (fitting := tuple(v for v in values if _may_point_to(parameter, v.resource_type)))
    ]
    if len(clauses) == 1:
        yield asked.resource_type, clauses[0]
    elif clauses:
        yield asked.resource_type, AnyOf(tuple(clauses))


def _parameters(ctx: Context, asked: Include) -> tuple[SearchParameter, ...]:
    if asked.parameter is not None:
        return (asked.parameter,)
    return tuple(
        parameter
        for parameter in ctx.parameters.for_type(asked.resource_type).values()
        if parameter.type is SearchType.REFERENCE and not parameter.is_derived
    )


def _may_point_to(parameter: SearchParameter, resource_type: str | None) -> bool:
    return not parameter.target_types or resource_type in parameter.target_types


def _sources(ctx: Context, asked: Include) -> frozenset[tuple[str, str | None]]:
    return frozenset(
        (source.code, source.target)
        for parameter in _parameters(ctx, asked)
        for source in parameter.sources
    )


def _is_wanted(sources: frozenset[tuple[str, str | None]], code: str, resource_type: str) -> bool:
    return (code, None) in sources or (code, resource_type) in sources
