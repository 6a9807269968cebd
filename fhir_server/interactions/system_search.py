"""system search: resources of several types, or of all, in one Bundle.

https://hl7.org/fhir/R4/http.html#search
"""

from fhir_server.core.query_string import Params
from fhir_server.interactions.context import Context
from fhir_server.interactions.search import search_within
from fhir_server.interactions.searched import Searched


async def system_search(ctx: Context, params: Params, *, is_strict: bool = False) -> bytes:
    """A page of the resources of the types in `_type` that match `params`.

    Raises:
        InvalidSearch: a parameter cannot be applied to one of these types.
        Gone, TooCostly: as for the search of one type.
    """
    types = tuple(sorted(ctx.validator.resource_types))
    return await search_within(ctx, Searched("", types, is_open=True), params, is_strict=is_strict)
