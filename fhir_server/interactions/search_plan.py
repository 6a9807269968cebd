"""The plan of a search: its parameters read, one query for each type.

https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.query_string import Params
from fhir_server.core.search.parse import ParsedSearch, parse
from fhir_server.core.search.query import Include, Query
from fhir_server.errors import InvalidSearch, Issue
from fhir_server.interactions.context import Context
from fhir_server.interactions.searched import Searched

_TYPE = "_type"
_MOST_WARNINGS = 20


class SearchPlan(NamedTuple):
    """The queries of a search, and what `ParsedSearch` says of them together."""

    queries: tuple[Query, ...]
    includes: tuple[Include, ...]
    summary: str | None
    elements: tuple[str, ...]
    applied: Params
    ignored: tuple[Issue, ...]


def make_plan(
    ctx: Context, searched: Searched, params: Params, at: datetime, *, is_strict: bool
) -> SearchPlan:
    """The plan of a search that was first asked for `at`.

    Raises:
        InvalidSearch: a parameter cannot be applied; with `is_strict`, or is unknown.
    """
    if len(searched.resource_types) == 1 and not searched.is_open:
        resource_type = searched.resource_types[0]
        parsed = read(ctx, resource_type, params, at, searched, is_strict=is_strict)
        query = _limited(ctx, searched, resource_type, parsed.query, ())
        return SearchPlan((query,), *parsed[1:])
    own = tuple(pair for pair in params if pair[0] in searched.own)
    others = tuple(pair for pair in params if pair[0] not in searched.own)
    chosen, types, rest = _choose_types(searched, others)
    _check_includes(rest, types)

    def read_each(*, is_strict: bool) -> list[ParsedSearch]:
        return [
            read(ctx, name, _for_type(rest, name), at, searched, is_strict=is_strict)
            for name in types
        ]

    each = read_each(is_strict=is_strict)
    ignored = tuple(issue for parsed in each for issue in parsed.ignored)
    if ignored:
        # What one type does not know limits none: the answer would mean two things.
        unknown = {
            pair
            for name, parsed in zip(types, each, strict=True)
            for pair in set(_for_type(rest, name)).difference(parsed.applied)
        }
        rest = tuple(pair for pair in rest if pair not in unknown)
        each = read_each(is_strict=True)
    applied = each[0].applied if len(types) == 1 else rest
    together = _together(ctx, searched, types, each, (*chosen, *own, *applied), own)
    return together._replace(ignored=ignored[:_MOST_WARNINGS])


def read(
    ctx: Context,
    resource_type: str,
    params: Params,
    at: datetime,
    searched: Searched | None = None,
    *,
    is_strict: bool,
) -> ParsedSearch:
    """The search of one type."""
    size = searched.default_page_size if searched else None
    return parse(
        resource_type,
        params,
        ctx.parameters,
        base_url=ctx.base_url,
        time_zone=ctx.time_zone,
        now=at,
        max_page_size=ctx.limits.page_size,
        default_page_size=size or ctx.limits.default_page_size,
        strict=is_strict,
        terminology=ctx.terminology,
    )


def _choose_types(searched: Searched, params: Params) -> tuple[Params, tuple[str, ...], Params]:
    """The `_type` parameters, the types that they leave, and the other parameters."""
    if not searched.is_open:
        return (), searched.resource_types, params
    asked = tuple(pair for pair in params if pair[0] == _TYPE)
    rest = tuple(pair for pair in params if pair[0] != _TYPE)
    if not asked:
        return (), searched.resource_types, rest
    named = dict.fromkeys(
        name for _, text in asked for part in text.split(",") if (name := part.strip())
    )
    known = frozenset(searched.resource_types)
    if not searched.beside.union(known).issuperset(named):
        raise InvalidSearch("_type: one of the types is none that can be found here")
    matched = tuple(name for name in named if name in known)
    if not matched:
        raise InvalidSearch("_type: expected the names of resource types that can be found here")
    return asked, matched, rest


def _source_of(name: str, text: str) -> str | None:
    """The type whose references an `_include` follows, if it names one."""
    return text.partition(":")[0] if name == "_include" and text != "*" else None


def _for_type(params: Params, resource_type: str) -> Params:
    """The parameters without the includes that start from another type."""
    return tuple(
        (name, text) for name, text in params if _source_of(name, text) in (None, resource_type)
    )


def _check_includes(params: Params, types: Sequence[str]) -> None:
    for name, text in params:
        if _source_of(name, text) not in (None, *types):
            raise InvalidSearch("_include: it starts from a type that is not searched for")


def _together(
    ctx: Context,
    searched: Searched,
    types: Iterable[str],
    each: Sequence[ParsedSearch],
    applied: Params,
    own: Params,
) -> SearchPlan:
    queries = []
    for name, parsed in zip(types, each, strict=True):
        queries.append(_limited(ctx, searched, name, parsed.query, own))
    first = each[0]
    _check_order(queries)
    return SearchPlan(
        tuple(queries),
        tuple(dict.fromkeys(include for parsed in each for include in parsed.includes)),
        first.summary,
        first.elements,
        applied,
        first.ignored,
    )


def _limited(
    ctx: Context, searched: Searched, resource_type: str, query: Query, own: Params
) -> Query:
    """`query` of what is searched, and of what the principal may see of it."""
    if within := searched.within(resource_type, own):
        query = query._replace(criteria=(*within, *query.criteria))
    if query.restriction is not ctx.principal.restriction:
        query = query._replace(restriction=ctx.principal.restriction)
    return query


def _check_order(queries: Sequence[Query]) -> None:
    """Raises `InvalidSearch` where a sort key means values that do not compare."""
    if (
        len(queries) > 1
        and len({tuple(key.parameter.type for key in query.sort) for query in queries}) > 1
    ):
        raise InvalidSearch("_sort: a key is not of one kind in all of these types")
