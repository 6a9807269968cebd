"""update: a new version of a resource, its first one included.

https://hl7.org/fhir/R4/http.html#update
"""

from fhir_server.core.etag import EntityTags
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, is_same_content, next_version
from fhir_server.errors import Issue, PreconditionFailed
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import (
    check_may,
    check_resource,
    check_resource_type,
    check_same_key,
    check_writable_id,
)
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Decision, Transaction


async def update(
    ctx: Context,
    key: ResourceKey,
    resource: Resource,
    if_match: EntityTags | None = None,
    if_none_match: EntityTags | None = None,
) -> tuple[Written, tuple[Issue, ...]]:
    """Store `resource` as the next version of `key`; create it if it is new.

    What is stored already makes no new version. The issues are warnings.

    Raises:
        InvalidRequest: `resource` is not the one that `key` names.
        InvalidResource: `resource` breaks the rules of its type.
        PreconditionFailed: the current version is not what the client thinks.
    """
    check_resource_type(ctx, key.resource_type)
    check_may(ctx, "u", key.resource_type)
    check_writable_id(key.resource_id)
    check_same_key(key, resource)
    issues = check_resource(ctx, resource)
    return await ctx.store.commit(decide(key, resource, if_match, if_none_match)), issues


def decide(
    key: ResourceKey,
    resource: Resource,
    if_match: EntityTags | None = None,
    if_none_match: EntityTags | None = None,
) -> Decision[Written]:
    """The decision of an update whose `resource` was checked."""

    def decide_update(tx: Transaction) -> Written:
        current = tx.read(key)
        # Compared where it commits: outside, two clients holding the same ETag
        # would both win.
        check_preconditions(key, current, if_match, if_none_match)
        if current is not None and is_same_content(current, resource):
            return Written("unchanged", current)
        version, stored = next_version(current, key, resource, tx.now)
        if not version.is_creation:
            tx.put(version, stored)
            return Written("updated", version)
        version = version._replace(interaction="update-create")
        tx.put(version, stored)
        return Written("created", version)

    return decide_update


def check_preconditions(
    key: ResourceKey,
    current: Version | None,
    if_match: EntityTags | None,
    if_none_match: EntityTags | None = None,
) -> None:
    """Raises `PreconditionFailed` unless `current` is what the conditions want."""
    if if_match is not None and not if_match.match(current):
        raise PreconditionFailed(f"{key} is not at the version that If-Match names")
    if if_none_match is not None and if_none_match.match(current):
        raise PreconditionFailed(f"{key} is there, and If-None-Match wants it not to be")
