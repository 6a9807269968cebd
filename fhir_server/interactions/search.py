"""search: the resources of a type that match, and what belongs to them; page by page.

https://hl7.org/fhir/R4/http.html#search
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple, cast

from fhir_server.core import bundle, resource_json, subset
from fhir_server.core.bundle import SearchEntry
from fhir_server.core.outcome import operation_outcome
from fhir_server.core.query_string import Params
from fhir_server.core.search.query import Query, Total
from fhir_server.core.subset import Part, Summary
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch, Issue
from fhir_server.interactions import long_search, merged_search, paging
from fhir_server.interactions.context import Context
from fhir_server.interactions.explain import EXPLAIN, explain
from fhir_server.interactions.include import Included, include
from fhir_server.interactions.incoming import check_may, check_resource_type
from fhir_server.interactions.search_plan import SearchPlan, make_plan, read
from fhir_server.interactions.searched import Searched
from fhir_server.interactions.terminology import with_terminology
from fhir_server.store.protocol import Page

Supplement = Callable[[Context, Sequence[Version], int, Params], Awaitable[Included]]

_INCOMPLETE = Issue(
    "too-costly",
    "more belongs to this page than it may hold: not everything is included",
    severity="warning",
)


class _Asked(NamedTuple):
    """A search, or a page of one. `at` is when its first page was asked for.

    `total` was counted for an earlier page; `token` is the link it was asked for by.
    """

    plan: SearchPlan
    queries: Sequence[Query]
    at: datetime
    total: int | None = None
    token: str | None = None


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
    check_may(ctx, "s", resource_type)
    searched = Searched(resource_type, (resource_type,))
    return await search_within(ctx, searched, params, is_strict=is_strict)


async def search_within(
    ctx: Context,
    searched: Searched,
    params: Params,
    *,
    is_strict: bool = False,
    supplement: Supplement | None = None,
) -> bytes:
    """A page of what `searched` holds.

    `supplement` finds what goes with the matches: it is given them, their moment and the
    parameters that were applied.

    Raises:
        InvalidSearch, Gone, TooCostly: as `search` does.
    """
    names = dict(params)
    token = names.get(paging.PARAMETER)
    if token is not None:
        asked = await _resume(ctx, searched, token)
    else:
        if EXPLAIN in names:
            return await explain(ctx, searched, params, is_strict=is_strict)
        # Page links keep whole seconds, and all pages compare with the same "now".
        at = ctx.now().replace(microsecond=0)
        plan = await with_terminology(
            ctx, lambda ctx: make_plan(ctx, searched, params, at, is_strict=is_strict)
        )
        if supplement is None:
            shown = await _show(ctx, searched, plan, at)
            if shown is not None:
                return shown
        asked = _Asked(plan, plan.queries, at)
    plan = asked.plan
    page = await merged_search.search(ctx, asked.queries)
    if asked.total is not None:
        page = page._replace(total=asked.total)
    matches = page.versions if asked.queries[0].count else ()
    part = to_part(plan.summary, plan.elements)
    entries = to_entries(ctx, matches, "match", part)
    issues = list(plan.ignored)
    included = await _included(ctx, plan, matches, page, supplement)
    entries += to_entries(ctx, included.versions, "include", part)
    if not included.is_complete:
        issues.append(_INCOMPLETE)
    if issues:
        outcome = resource_json.format(operation_outcome(issues))
        entries.append(SearchEntry(None, outcome, "outcome"))
    paged: Params = plan.applied
    if page.next is not None or asked.token is not None:
        paged = await long_search.shorten(ctx, searched.path, plan.applied)
    links = paging.links(ctx, searched.path, plan.applied, page, asked.at, asked.token, paged=paged)
    return bundle.searchset(
        ctx.base_url,
        entries,
        links=links[:1] if plan.summary == "count" else links,
        total=page.total,
        now=ctx.now(),
    )


async def _show(ctx: Context, searched: Searched, plan: SearchPlan, at: datetime) -> bytes | None:
    """A first page of nothing but whole matches, where the store has a short way to it."""
    if len(plan.queries) != 1 or plan.includes or plan.elements or plan.summary or plan.ignored:
        return None
    query = plan.queries[0]
    found = await ctx.store.first_page(query)
    if found is None:
        return None
    page = Page((), found.as_of, found.next)
    paged: Params = plan.applied
    if page.next is not None:
        paged = await long_search.shorten(ctx, searched.path, plan.applied)
    links = paging.links(ctx, searched.path, plan.applied, page, at, None, paged=paged)
    return bundle.searchset_of(
        ctx.base_url, query.resource_type, found.bodies, links=links, now=ctx.now()
    )


async def _resume(ctx: Context, searched: Searched, token: str) -> _Asked:
    """The search that `token` is a page of: parsed again, as of the moment it began."""
    state = paging.resume(ctx, searched.path, token)
    state = await long_search.restore(ctx, searched.path, state)
    at = paging.began(state)
    plan = await with_terminology(
        ctx, lambda ctx: make_plan(ctx, searched, state.params, at, is_strict=True)
    )
    after, before = paging.after(state), paging.before(state)
    queries = [
        query._replace(as_of=state.as_of, after=after, before=before) for query in plan.queries
    ]
    if state.total is not None:
        # Counted once: all pages are of one moment.
        queries = [query._replace(total=Total.NONE) for query in queries]
    return _Asked(plan, queries, at, state.total, token)


async def _included(
    ctx: Context,
    plan: SearchPlan,
    matches: Sequence[Version],
    page: Page,
    supplement: Supplement | None,
) -> Included:
    if matches and supplement is not None:
        return await supplement(ctx, matches, page.as_of, plan.applied)
    if matches and plan.includes:
        return await include(ctx, matches, plan.includes, page.as_of)
    return Included((), is_complete=True)


def to_entries(
    ctx: Context, versions: Sequence[Version], mode: bundle.Mode, part: Part | None
) -> list[SearchEntry]:
    """Entries of a searchset, with `part` of each resource; None is all of it."""
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
    parsed = read(ctx, resource_type, asked, ctx.now(), is_strict=True)
    if parsed.summary == "count":
        raise InvalidSearch("_summary=count: one resource is read, there is nothing to count")
    return to_part(parsed.summary, parsed.elements)


def to_part(summary: str | None, elements: Sequence[str]) -> Part | None:
    """What `_summary` and `_elements` leave of a resource; None is all of it."""
    if summary in ("true", "text", "data"):
        return Part(summary=cast("Summary", summary))
    return Part(frozenset(elements)) if elements else None
