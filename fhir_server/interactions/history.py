"""history: the versions of a resource, of a type, or of all; newest first unless asked otherwise.

https://hl7.org/fhir/R4/http.html#history
"""

from datetime import UTC, datetime

from fhir_server.core import bundle, date_range
from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.errors import InvalidRequest, Issue, NotFound
from fhir_server.interactions import paging
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_key, check_may, check_resource_type
from fhir_server.store.protocol import HistoryQuery

_NEWEST_FIRST = "-_lastUpdated"
_OLDEST_FIRST = "_lastUpdated"
_PARAMETERS = ("_count", "_since", "_at", "_sort")


async def instance(
    ctx: Context, key: ResourceKey, params: Params, *, is_strict: bool = False
) -> bytes:
    """A page of the versions of `key`, as a Bundle.

    A Bundle of versions has no place to tell what was ignored: the self link shows it.

    Raises:
        NotFound: it never was. A deleted resource has its history.
        InvalidRequest: a parameter that means nothing; or is unknown, and `is_strict`.
        Gone: the page's moment is not kept any more.
    """
    check_key(ctx, key)
    check_may(ctx, "r", key.resource_type)
    if await ctx.store.read(key) is None:
        raise NotFound(f"{key} is not known")
    asked = HistoryQuery(key.resource_type, key.resource_id)
    return await _page(ctx, f"{key}/_history", asked, params, is_strict)


async def of_type(
    ctx: Context, resource_type: str, params: Params, *, is_strict: bool = False
) -> bytes:
    """A page of the versions of every resource of a type; raises as `instance` does."""
    check_resource_type(ctx, resource_type)
    check_may(ctx, "s", resource_type)
    asked = HistoryQuery(resource_type)
    return await _page(ctx, f"{resource_type}/_history", asked, params, is_strict)


async def system(ctx: Context, params: Params, *, is_strict: bool = False) -> bytes:
    """A page of the versions of all resources; raises as `instance` does."""
    return await _page(ctx, "_history", HistoryQuery(), params, is_strict)


async def _page(
    ctx: Context, path: str, asked: HistoryQuery, params: Params, is_strict: bool
) -> bytes:
    token = dict(params).get(paging.PARAMETER)
    began = ctx.now()
    if token is None:
        query, applied = _parse(ctx, asked, params)
        if is_strict and len(applied) < len(params):
            raise _unsupported(f"a history takes {', '.join(_PARAMETERS)} and nothing else")
    else:
        state = paging.resume(ctx, path, token)
        query, applied = _parse(ctx, asked, state.params)
        after, before = paging.after(state), paging.before(state)
        if not query.is_oldest_first:
            after, before = before, after
        query = query._replace(
            as_of=state.as_of, after=after and after.sequence, before=before and before.sequence
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
                query = query._replace(at=_parse_date(ctx, value))
            case "_sort" if value in (_NEWEST_FIRST, _OLDEST_FIRST):
                query = query._replace(is_oldest_first=value == _OLDEST_FIRST)
            case "_sort":
                raise _unsupported("_sort: a history is told by -_lastUpdated or _lastUpdated")
            case "_list":
                raise _unsupported("_list: a history is told of all, or of one type or resource")
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


def _parse_date(ctx: Context, value: str) -> DateRange:
    # A plus sign that was not escaped has become a space.
    try:
        return date_range.parse(value.replace(" ", "+"), date_range.load_zone(ctx.time_zone))
    except ValueError:
        raise InvalidRequest("_at is a date or dateTime: 2024, 2024-03-01T12:00:00Z") from None


def _unsupported(diagnostics: str) -> InvalidRequest:
    return InvalidRequest(issues=(Issue("not-supported", diagnostics),))
