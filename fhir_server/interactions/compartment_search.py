"""compartment search: the resources that belong to a patient, a device, an encounter.

https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.core.search.query import AnyOf, Clause, Criterion, ReferenceValue, TokenValue
from fhir_server.errors import NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_key, check_may, check_resource_type
from fhir_server.interactions.search import search_within
from fhir_server.interactions.searched import Searched

_ANY = "*"


async def compartment_search(
    ctx: Context, key: ResourceKey, member: str, params: Params, *, is_strict: bool = False
) -> bytes:
    """A page of the resources of type `member`, or of all for `*`, that belong to `key`.

    Raises:
        NotFound: `key` can have no compartment, or the type is never in it.
        InvalidSearch, Gone, TooCostly: as for the search of one type.
    """
    check_key(ctx, key)
    found = ctx.compartments.resource_types(key.resource_type)
    if not found:
        raise NotFound(f"{key.resource_type} has no compartment; " + _known(ctx))
    path = f"{key}/{member}"
    if member == _ANY:
        searched = Searched(
            path,
            tuple(sorted(found)),
            is_open=True,
            within=lambda name, _: belonging(ctx, key, name),
        )
        return await search_within(ctx, searched, params, is_strict=is_strict)
    check_resource_type(ctx, member)
    check_may(ctx, "s", member)
    if member not in found:
        raise NotFound(f"{member} is not in the compartment of {key.resource_type}")
    searched = Searched(path, (member,), within=lambda name, _: belonging(ctx, key, name))
    return await search_within(ctx, searched, params, is_strict=is_strict)


def belonging(ctx: Context, key: ResourceKey, resource_type: str) -> tuple[Criterion, ...]:
    """What says of a resource that it belongs to `key`."""
    refers = ReferenceValue(key.resource_type, key.resource_id)
    criteria: list[Criterion] = []
    for code in ctx.compartments.parameters(key.resource_type, resource_type):
        parameter = ctx.parameters.get(resource_type, code)
        if parameter is not None:
            is_itself = code == "_id"
            value = TokenValue(None, key.resource_id) if is_itself else refers
            criteria.append(Clause(parameter, "", (value,)))
    return (criteria[0] if len(criteria) == 1 else AnyOf(tuple(criteria)),)


def _known(ctx: Context) -> str:
    return f"these have one: {', '.join(sorted(ctx.compartments.types))}"
