"""conditional update: the next version of whichever resource matches, or a new one.

https://hl7.org/fhir/R4/http.html#cond-update
"""

from fhir_server.core.etag import EntityTags
from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, Issue, VersionConflict
from fhir_server.interactions import update
from fhir_server.interactions.condition import Condition, find_match, parse_condition
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import (
    check_may,
    check_resource,
    check_resource_type,
    check_type,
    check_writable_id,
)
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Decision, Transaction


async def conditional_update(
    ctx: Context,
    resource_type: str,
    resource: Resource,
    params: Params,
    if_match: EntityTags | None = None,
    if_none_match: EntityTags | None = None,
) -> tuple[Written, tuple[Issue, ...]]:
    """Store `resource` as the next version of the one that matches `params`. Issues warn.

    Raises:
        InvalidRequest: the criteria mean nothing, or `resource` says it is another one.
        InvalidResource: `resource` breaks the rules of its type.
        MultipleMatches: several match.
        PreconditionFailed: the match is not at the version that the client thinks.
        VersionConflict: none matches, and the id of `resource` is another's.
    """
    check_resource_type(ctx, resource_type)
    check_may(ctx, "u", resource_type)
    check_type(resource_type, resource)
    own_id(resource)
    condition = parse_condition(ctx, resource_type, params)
    issues = check_resource(ctx, resource)
    written = await ctx.store.commit(
        decide(condition, resource, ctx.new_id(), if_match, if_none_match)
    )
    return written, issues


def decide(
    condition: Condition,
    resource: Resource,
    new_id: str,
    if_match: EntityTags | None = None,
    if_none_match: EntityTags | None = None,
) -> Decision[Written]:
    """The decision of a conditional update whose `resource` was checked."""

    def decide_conditional_update(tx: Transaction) -> Written:
        key = choose_key(tx, condition, find_match(tx, condition), resource, new_id)
        identified = {**resource, "id": key.resource_id}
        return update.decide(key, identified, if_match, if_none_match)(tx)

    return decide_conditional_update


def choose_key(
    tx: Transaction,
    condition: Condition,
    match: ResourceKey | None,
    resource: Resource,
    new_id: str,
) -> ResourceKey:
    """Which resource `resource` is a version of.

    Raises:
        InvalidRequest: it says that it is another one than `match`.
        VersionConflict: nothing matches, and its id is another's.
    """
    own = own_id(resource)
    resource_type = condition.query.resource_type
    if match is not None:
        if own not in (None, match.resource_id):
            issue = Issue(
                "invalid", "the id is not that of the resource that matches", f"{resource_type}.id"
            )
            raise InvalidRequest(issues=(issue,))
        return match
    key = ResourceKey(resource_type, own or new_id)
    if own is not None:
        current = tx.read(key)
        # It is there and does not match: to replace it is not what was asked for.
        if current is not None and not current.is_deletion:
            raise VersionConflict(f"{key} is there and does not match the condition")
    return key


def own_id(resource: Resource) -> str | None:
    """The id that `resource` has itself.

    Raises:
        InvalidRequest: it is none.
    """
    if "id" not in resource:
        return None
    own = resource["id"]
    if not isinstance(own, str):
        raise InvalidRequest("an id is a text")
    check_writable_id(own)
    return own
