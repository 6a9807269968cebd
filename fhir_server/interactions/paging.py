"""Page links: where a search or history goes on, sealed into one parameter.

https://hl7.org/fhir/R4/http.html#paging
"""

import re
from datetime import UTC, datetime

from fhir_server.core import query_string
from fhir_server.core.bundle import Link
from fhir_server.core.query_string import Params
from fhir_server.core.search import cursor
from fhir_server.core.search.cursor import PageState
from fhir_server.core.search.query import Cursor
from fhir_server.errors import InvalidRequest, TooCostly
from fhir_server.interactions.context import Context
from fhir_server.interactions.page_nonces import nonces
from fhir_server.store.protocol import Page

PARAMETER = "_page"

# What proxies and servers on the way take for a URL; a link that is longer leads nowhere.
MOST_LINK_CHARACTERS = 16_000
_MOST_SELF_CHARACTERS = 8_000

_COUNT = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


def links(
    ctx: Context,
    path: str,
    params: Params,
    page: Page,
    began: datetime,
    token: str | None,
    *,
    paged: Params | None = None,
) -> list[Link]:
    """The links of a page of `params`; `token` is the link that it was asked for by, if any.

    `paged` is what the links to other pages hold in place of `params`.

    Raises:
        TooCostly: there is more, and a link to it would be too long.
    """

    def link(relation: str, place: Cursor | None, *, is_backward: bool = False) -> Link:
        state = PageState(
            None,
            params if paged is None else paged,
            place or Cursor((), 0),
            page.as_of,
            int(began.timestamp()),
            page.total,
            is_backward,
        )
        sealed = cursor.encode(state, ctx.page_key, nonces.next(), _bound_to(ctx, path))
        # Of the characters that a token is made of, none is quoted.
        target = f"{url(ctx, path, ())}?{PARAMETER}={sealed}"
        if len(target) > MOST_LINK_CHARACTERS:
            raise TooCostly(
                "the search is too long for page links: ask for fewer values at a time, "
                "or for larger pages with _count"
            )
        return Link(relation, target)

    if token is None:
        own = url(ctx, path, params)
        if len(own) > _MOST_SELF_CHARACTERS:
            own = url(ctx, f"{path}/_search".lstrip("/"), ())
        # The first page is what its own URL says already; sealing another costs 70 µs.
        found = [Link("self", own), Link("first", own)]
    else:
        found = [Link("self", url(ctx, path, ((PARAMETER, token),))), link("first", None)]
    if page.previous is not None:
        found.append(link("previous", page.previous, is_backward=True))
    if page.next is not None:
        found.append(link("next", page.next))
    return found


def resume(ctx: Context, path: str, token: str) -> PageState:
    """What the page link `token` of `path` says.

    Raises:
        InvalidSearch: it says nothing, is of another path, or somebody else's.
    """
    return cursor.decode(token, ctx.page_key, _bound_to(ctx, path))


def after(state: PageState) -> Cursor | None:
    """Behind what the page begins; None is the first, or one that goes back."""
    return state.cursor if state.cursor.sequence and not state.is_backward else None


def before(state: PageState) -> Cursor | None:
    """Before what the page ends, if it goes back."""
    return state.cursor if state.is_backward else None


def began(state: PageState) -> datetime:
    """When the first page was asked for."""
    return datetime.fromtimestamp(state.issued, UTC)


def url(ctx: Context, path: str, params: Params) -> str:
    """The absolute URL of `path` with `params`."""
    base = f"{ctx.base_url}/{path}" if path else ctx.base_url
    return f"{base}?{query_string.format(params)}" if params else base


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
