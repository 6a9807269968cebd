"""create: a new resource with an id of the server's; conditionally, only if none matches.

https://hl7.org/fhir/R4/http.html#create
"""

from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import next_version
from fhir_server.errors import Issue
from fhir_server.interactions.condition import Condition, find_match, parse_condition
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import (
    check_may,
    check_resource,
    check_resource_type,
    check_type,
)
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Decision, Transaction


async def create(
    ctx: Context, resource_type: str, resource: Resource, if_none_exist: Params | None = None
) -> tuple[Written, tuple[Issue, ...]]:
    """Store `resource` under a new id, unless `if_none_exist` finds one. The issues are warnings.

    Raises:
        InvalidRequest: `resource` is of another type, or the criteria do not mean a thing.
        InvalidResource: `resource` breaks the rules of its type.
        MultipleMatches: `if_none_exist` finds several.
    """
    check_resource_type(ctx, resource_type)
    check_may(ctx, "c", resource_type)
    check_type(resource_type, resource)
    issues = check_resource(ctx, resource)
    condition = None
    if if_none_exist is not None:
        condition = parse_condition(ctx, resource_type, if_none_exist)
    key = ResourceKey(resource_type, ctx.new_id())
    return await ctx.store.commit(decide(key, resource, condition)), issues


def decide(
    key: ResourceKey, resource: Resource, condition: Condition | None = None
) -> Decision[Written]:
    """The decision of a create whose `resource` was checked; `key` is a new one."""

    def decide_create(tx: Transaction) -> Written:
        if condition is not None:
            # Searched where it commits: of two clients that create the same at once,
            # the second finds what the first made.
            match = find_match(tx, condition)
            if match is not None:
                return Written("matched", tx.read(match))
        version, stored = next_version(None, key, resource, tx.now)
        tx.put(version, stored)
        return Written("created", version)

    return decide_create
