"""conditional delete: the one resource that matches, if any does.

https://hl7.org/fhir/R4/http.html#3.1.0.7.1
"""

from fhir_server.core.etag import EntityTags
from fhir_server.core.query_string import Params
from fhir_server.interactions import delete
from fhir_server.interactions.condition import Condition, find_match, parse_condition
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_resource_type
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Decision, Transaction


async def conditional_delete(
    ctx: Context, resource_type: str, params: Params, if_match: EntityTags | None = None
) -> Written:
    """Delete what matches `params`; that nothing does is no error.

    Raises:
        InvalidSearch: the criteria mean nothing.
        MultipleMatches: several match, and none was deleted.
        PreconditionFailed: the match is not at the version that the client thinks.
    """
    check_resource_type(ctx, resource_type)
    condition = parse_condition(ctx, resource_type, params)
    return await ctx.store.commit(decide(condition, if_match))


def decide(condition: Condition, if_match: EntityTags | None = None) -> Decision[Written]:
    """The decision of a conditional deletion."""

    def decide_conditional_delete(tx: Transaction) -> Written:
        match = find_match(tx, condition)
        return Written("absent", None) if match is None else delete.decide(match, if_match)(tx)

    return decide_conditional_delete
