"""conditional delete: the resource that matches, or all that do, in one commit.

https://hl7.org/fhir/R4/http.html#3.1.0.7.1
"""

from collections.abc import Sequence

from fhir_server.core.etag import EntityTags
from fhir_server.core.query_string import Params
from fhir_server.errors import Issue, MultipleMatches
from fhir_server.interactions import delete
from fhir_server.interactions.condition import Condition, find_every, parse_condition
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_may, check_resource_type
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Decision, Transaction


async def conditional_delete(
    ctx: Context, resource_type: str, params: Params, if_match: EntityTags | None = None
) -> tuple[Written, tuple[Issue, ...]]:
    """Delete what matches `params`; that nothing does is no error. The issue says how many.

    Raises:
        InvalidSearch: the criteria mean nothing.
        TooCostly: more match than one request may delete, and none was deleted.
        MultipleMatches: several match, and the server deletes but one, or `if_match` is about
            one alone.
        PreconditionFailed: the match is not at the version that the client thinks.
    """
    check_resource_type(ctx, resource_type)
    check_may(ctx, "d", resource_type)
    condition = parse_condition(ctx, resource_type, params)
    each = await ctx.store.commit(decide(condition, ctx.limits.deletions, if_match))
    said = "1 resource was deleted" if len(each) == 1 else f"{len(each)} resources were deleted"
    return together(each), (Issue("informational", said, severity="information"),)


def decide(
    condition: Condition, limit: int, if_match: EntityTags | None = None
) -> Decision[tuple[Written, ...]]:
    """The decision of a conditional deletion."""

    def decide_conditional_delete(tx: Transaction) -> tuple[Written, ...]:
        keys = find_every(tx, condition, limit)
        if if_match is not None and len(keys) > 1:
            raise MultipleMatches("several resources match, and If-Match is about one")
        return tuple(delete.decide(key, if_match)(tx) for key in keys)

    return decide_conditional_delete


def together(each: Sequence[Written]) -> Written:
    """What became of all of them, as one."""
    if not each:
        return Written("absent", None)
    return each[0] if len(each) == 1 else Written("deleted", None)
