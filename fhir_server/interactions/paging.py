"""Page links: where a search or history goes on, sealed into one parameter.

https://hl7.org/fhir/R4/http.html#paging
"""

import re
from datetime import UTC, datetime
from secrets import token_bytes

from fhir_server.core import query_string
from fhir_server.core.query_string import Params
from fhir_server.core.search import cursor
from fhir_server.core.search.cursor import PageState
from fhir_server.core.search.query import Cursor
from fhir_server.errors import InvalidRequest
from fhir_server.interactions.context import Context

PARAMETER = "_page"

_COUNT = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


def page_url(
    ctx: Context, path: str, params: Params, after: Cursor | None, as_of: int, began: datetime
) -> str:
    """The URL of the page behind `after`; the first one if that is None."""
    state = PageState(None, params, after or Cursor((), 0), as_of, int(began.timestamp()))
    token = cursor.encode(
        state, ctx.page_key, token_bytes(cursor.NONCE_BYTES), _bound_to(ctx, path)
    )
    return url(ctx, path, ((PARAMETER, token),))


def resume(ctx: Context, path: str, token: str) -> PageState:
    """What the page link `token` of `path` says.

    Raises:
        InvalidSearch: it says nothing, is of another path, or somebody else's.
    """
    return cursor.decode(token, ctx.page_key, _bound_to(ctx, path))


def after(state: PageState) -> Cursor | None:
    """Behind what the page begins; None is the first."""
    return state.cursor if state.cursor.sequence else None


def began(state: PageState) -> datetime:
    """When the first page was asked for."""
    return datetime.fromtimestamp(state.issued, UTC)


def url(ctx: Context, path: str, params: Params) -> str:
    """The absolute URL of `path` with `params`."""
    query = query_string.format(params)
    return f"{ctx.base_url}/{path}?{query}" if query else f"{ctx.base_url}/{path}"


def parse_count(text: str, limit: int) -> int:
    """`_count` of a history, clamped to `limit`.

    Raises:
        InvalidRequest: no whole number from 1.
    """
    if _COUNT.match(text) is None or int(text) == 0:
        raise InvalidRequest("_count is a whole number from 1")
    return min(int(text), limit)


def _bound_to(ctx: Context, path: str) -> str:
    return f"{ctx.principal.name}\n{path}"
