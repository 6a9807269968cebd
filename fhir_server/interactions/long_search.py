"""Long searches: too long for a page link, so the store keeps them and links name them.

What is kept is sealed like a link: the store's file tells of no question more than it does of
resources, and who may not use a link cannot use what it names.
"""

from fhir_server.core.query_string import Params
from fhir_server.core.search import cursor
from fhir_server.core.search.cursor import PageState
from fhir_server.core.search.query import Cursor
from fhir_server.errors import Gone
from fhir_server.interactions.context import Context
from fhir_server.interactions.page_nonces import nonces

# Stands in a link for the parameters; its value is where they are kept.
_KEPT = "_kept"
_MOST_BYTES = 8_000


async def shorten(ctx: Context, path: str, params: Params) -> Params:
    """What page links hold for a search of `path` by `params`, which the store keeps if long.

    Raises:
        StoreUnavailable: they could not be kept.
    """
    characters = 0
    for name, text in params:
        characters += len(name) + len(text)
    # A character is four bytes at most.
    if characters < _MOST_BYTES // 4 or (
        sum(len(name.encode()) + len(text.encode()) for name, text in params) < _MOST_BYTES
    ):
        return params
    bound_to = _bound_to(ctx, path)
    name = cursor.name_of(params, ctx.page_key, bound_to)
    state = PageState(None, params, Cursor((), 0), 0, 0)
    sealed = cursor.encode(state, ctx.page_key, nonces.next(), bound_to)
    await ctx.store.keep(name, sealed)
    return ((_KEPT, name),)


async def restore(ctx: Context, path: str, state: PageState) -> PageState:
    """`state` with the parameters that its link stands for.

    Raises:
        Gone: they are not kept any more.
    """
    if len(state.params) != 1 or state.params[0][0] != _KEPT:
        return state
    sealed = await ctx.store.kept(state.params[0][1])
    if sealed is None:
        raise Gone("the page link has expired: search again")
    asked = cursor.decode(sealed, ctx.page_key, _bound_to(ctx, path), longest=len(sealed))
    return state._replace(params=asked.params)


def _bound_to(ctx: Context, path: str) -> str:
    return f"{ctx.principal.name}\n{path}\nkept"
