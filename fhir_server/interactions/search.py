"""search: the resources of a type that match, and what belongs to them; page by page.

https://hl7.org/fhir/R4/http.html#search
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, cast

from fhir_server.core import bundle, resource_json, subset
from fhir_server.core.bundle import Link, SearchEntry
from fhir_server.core.outcome import operation_outcome
from fhir_server.core.query_string import Params
from fhir_server.core.search.parse import ParsedSearch, parse
from fhir_server.core.search.query import Cursor, Query
from fhir_server.core.subset import Part, Summary
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch, Issue
from fhir_server.interactions import paging
from fhir_server.interactions.context import Context
from fhir_server.interactions.include import include
from fhir_server.interactions.incoming import check_resource_type
from fhir_server.store.protocol import Page

_INCOMPLETE = Issue(
    "too-costly",
    "more belongs to this page than it may hold: not everything is included",
    severity="warning",
)


class _Asked(NamedTuple):
    """A search, or a page of one. `at` is when its first page was asked for."""

    parsed: ParsedSearch
    query: Query
    self_url: str
    at: datetime


async def search(
    ctx: Context, resource_type: str, params: Params, *, is_strict: bool = False
) -> bytes:
    """A page of the resources that match `params`, as a searchset.

    Raises:
        NotFound: there is no such resource type.
        InvalidSearch: a parameter cannot be applied; with `is_strict`, or is unknown.
        Gone: the page's moment is not kept any more.
        TooCostly: the store would have to look at more than one request may.
    """
    check_resource_type(ctx, resource_type)
    token = dict(params).get(paging.PARAMETER)
    if token is None:
        asked = _parse(ctx, resource_type, params, is_strict=is_strict)
    else:
        asked = _resume(ctx, resource_type, token)
    parsed = asked.parsed
    page = await ctx.store.search(asked.query)
    matches = page.versions if asked.query.count else ()
    entries = _entries(ctx, matches, "match", parsed)
    issues = list(parsed.ignored)
    if parsed.includes and matches:
        included = await include(ctx, matches, parsed.includes, page.as_of)
        entries += _entries(ctx, included.versions, "include", parsed)
        if not included.is_complete:
            issues.append(_INCOMPLETE)
    if issues:
        outcome = resource_json.format(operation_outcome(issues))
        entries.append(SearchEntry(None, outcome, "outcome"))
    return bundle.searchset(
        ctx.base_url,
        entries,
        links=_links(ctx, resource_type, asked, page),
        total=page.total,
        now=ctx.now(),
    )


def _parse(ctx: Context, resource_type: str, params: Params, *, is_strict: bool) -> _Asked:
    # Page links keep whole seconds, and all pages compare with the same "now".
    at = ctx.now().replace(microsecond=0)
    parsed = _read(ctx, resource_type, params, at, is_strict=is_strict)
    query = parsed.query._replace(restriction=ctx.principal.restriction)
    return _Asked(parsed, query, paging.url(ctx, resource_type, parsed.applied), at)


def _resume(ctx: Context, resource_type: str, token: str) -> _Asked:
    """The search that `token` is a page of: parsed again, as of the moment it began."""
    state = paging.resume(ctx, resource_type, token)
    at = paging.began(state)
    parsed = _read(ctx, resource_type, state.params, at, is_strict=True)
    query = parsed.query._replace(
        restriction=ctx.principal.restriction, as_of=state.as_of, after=paging.after(state)
    )
    self_url = paging.url(ctx, resource_type, ((paging.PARAMETER, token),))
    return _Asked(parsed, query, self_url, at)


def _read(
    ctx: Context, resource_type: str, params: Params, at: datetime, *, is_strict: bool
) -> ParsedSearch:
    return parse(
        resource_type,
        params,
        ctx.parameters,
        base_url=ctx.base_url,
        time_zone=ctx.time_zone,
        now=at,
        max_page_size=ctx.limits.page_size,
        default_page_size=ctx.limits.default_page_size,
        strict=is_strict,
    )


def _entries(
    ctx: Context, versions: Sequence[Version], mode: bundle.Mode, parsed: ParsedSearch
) -> list[SearchEntry]:
    part = _part(parsed.summary, parsed.elements)
    return [
        SearchEntry(
            version.key,
            body if part is None else subset.subset(body, part, ctx.element_types),
            mode,
        )
        for version in versions
        if (body := version.body) is not None
    ]


def parse_part(ctx: Context, resource_type: str, params: Params) -> Part | None:
    """What `_summary` and `_elements` leave of a resource that is read; None is all of it.

    Raises:
        InvalidSearch: they mean nothing.
    """
    asked = tuple((name, value) for name, value in params if name in ("_summary", "_elements"))
    if not asked:
        return None
    parsed = _read(ctx, resource_type, asked, ctx.now(), is_strict=True)
    if parsed.summary == "count":
        raise InvalidSearch("_summary=count: one resource is read, there is nothing to count")
    return _part(parsed.summary, parsed.elements)


def _part(summary: str | None, elements: Sequence[str]) -> Part | None:
    if summary in ("true", "text", "data"):
        return Part(summary=cast("Summary", summary))
    return Part(frozenset(elements)) if elements else None


def _links(ctx: Context, resource_type: str, asked: _Asked, page: Page) -> list[Link]:
    links = [Link("self", asked.self_url)]
    if asked.parsed.summary == "count":
        return links

    def link(relation: str, after: Cursor | None) -> Link:
        page_url = paging.page_url(
            ctx, resource_type, asked.parsed.applied, after, page.as_of, asked.at
        )
        return Link(relation, page_url)

    # The first page is what its own URL says already; sealing another costs 70 µs.
    is_first = asked.query.as_of is None
    links.append(Link("first", asked.self_url) if is_first else link("first", None))
    if page.next is not None:
        links.append(link("next", page.next))
    return links
