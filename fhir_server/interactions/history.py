"""history: the versions of a resource, of a type, or of all; newest first.

https://hl7.org/fhir/R4/http.html#history
"""

from datetime import UTC, datetime

from fhir_server.core import bundle
from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.errors import InvalidRequest, Issue, NotFound
from fhir_server.interactions import paging
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_key, check_resource_type
from fhir_server.store.protocol import HistoryQuery

_NEWEST_FIRST = "-_lastUpdated"


async def instance(ctx: Context, key: ResourceKey, params: Params) -> bytes:
    """A page of the versions of `key`, as a Bundle.

    Raises:
        NotFound: it never was. A deleted resource has its history.
        InvalidRequest: a parameter that means nothing.
        Gone: the page's moment is not kept any more.
    """
    check_key(ctx, key)
    if await ctx.store.read(key) is None:
        raise NotFound(f"{key} is not known")
    asked = HistoryQuery(key.resource_type, key.resource_id)
    return await _page(ctx, f"{key}/_history", asked, params)


async def of_type(ctx: Context, resource_type: str, params: Params) -> bytes:
    """A page of the versions of every resource of a type; raises as `instance` does."""
    check_resource_type(ctx, resource_type)
    return await _page(ctx, f"{resource_type}/_history", HistoryQuery(resource_type), params)


async def system(ctx: Context, params: Params) -> bytes:
    """A page of the versions of all resources; raises as `instance` does."""
    return await _page(ctx, "_history", HistoryQuery(), params)


async def _page(ctx: Context, path: str, asked: HistoryQuery, params: Params) -> bytes:
    token = dict(params).get(paging.PARAMETER)
    began = ctx.now()
    if token is None:
        query, applied = _parse(ctx, asked, params)
    else:
        state = paging.resume(ctx, path, token)
        query, applied = _parse(ctx, asked, state.params)
        after, before = paging.after(state), paging.before(state)
        query = query._replace(
            as_of=state.as_of, before=after and after.sequence, after=before and before.sequence
        )
        began = paging.began(state)
    page = await ctx.store.history(query)
    links = paging.links(ctx, path, applied, page, began, token)
    return bundle.history(ctx.base_url, page.versions, links=links, total=page.total, now=ctx.now())


def _parse(ctx: Context, asked: HistoryQuery, params: Params) -> tuple[HistoryQuery, Params]:
    """The query, and the parameters that it follows."""
    query = asked._replace(count=ctx.limits.default_page_size)
    applied: list[tuple[str, str]] = []
    for name, value in params:
        match name:
            case "_count":
                query = query._replace(count=paging.parse_count(value, ctx.limits.page_size))
            case "_since":
                query = query._replace(since=_parse_instant(name, value))
            case "_at":
                query = query._replace(at=_parse_instant(name, value))
            case "_sort" if value == _NEWEST_FIRST:
                pass
            case "_sort" | "_list":
                raise _unsupported(f"{name}: a history is told newest first, and all of it")
            case _:
                continue
        applied.append((name, value))
    return query, tuple(applied)


def _parse_instant(name: str, value: str) -> datetime:
    # A plus sign that was not escaped has become a space.
    try:
        when = datetime.fromisoformat(value.replace(" ", "+"))
        if when.tzinfo is not None and "T" in value:
            return when.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{name} is an instant with a time zone: 2024-03-01T12:00:00Z")


def _unsupported(diagnostics: str) -> InvalidRequest:
    return InvalidRequest(issues=(Issue("not-supported", diagnostics),))
