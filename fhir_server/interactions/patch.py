"""patch: the next version of a resource, made from the current one.

https://hl7.org/fhir/R4/http.html#patch
"""

import asyncio
from typing import NamedTuple

from fhir_server.core import links
from fhir_server.core.etag import EntityTags
from fhir_server.core.identity import ResourceKey
from fhir_server.core.patch.budget import Budget
from fhir_server.core.patch.patch import Patch
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, is_same_content, next_version
from fhir_server.errors import Issue, NotFound
from fhir_server.interactions.condition import Condition, find_match, parse_condition
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import (
    check_key,
    check_may,
    check_resource,
    check_resource_type,
)
from fhir_server.interactions.read import check_present
from fhir_server.interactions.update import check_preconditions
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Decision, Transaction

# Beyond it, patching and checking take longer than other requests should wait.
_APART_FROM_BYTES = 64 * 1024
_APART_FROM_PATCH_BYTES = 4 * 1024
# The store's text of a resource, in bytes, that costs one step of a budget to copy.
_BYTES_PER_STEP = 16


class Patched(NamedTuple):
    """What a patch made of the version `base`, checked; `issues` are warnings."""

    base: int
    resource: Resource
    issues: tuple[Issue, ...]


Outcome = tuple[Written, tuple[Issue, ...]]


async def patch(
    ctx: Context,
    key: ResourceKey,
    change: Patch,
    if_match: EntityTags | None = None,
    if_none_match: EntityTags | None = None,
) -> Outcome:
    """Store what `change` makes of `key` as its next version. Issues are warnings.

    What changes nothing makes no new version.

    Raises:
        NotFound, Gone: there is nothing to be patched.
        InvalidResource: the patch does not go with the resource, or leaves one that breaks
            the rules of its type.
        PreconditionFailed: the current version is not what the client thinks.
    """
    check_key(ctx, key)
    check_may(ctx, "u", key.resource_type)
    current = _present(key, await ctx.store.read(key))
    check_preconditions(key, current, if_match, if_none_match)
    patched = await _apply_early(ctx, current, change)
    return await ctx.store.commit(decide(ctx, key, change, if_match, if_none_match, patched))


async def conditional_patch(
    ctx: Context,
    resource_type: str,
    params: Params,
    change: Patch,
    if_match: EntityTags | None = None,
) -> Outcome:
    """Store what `change` makes of the one resource that matches `params`.

    Raises:
        InvalidSearch: the criteria mean nothing.
        NotFound: nothing matches.
        MultipleMatches: several match.
        InvalidResource, PreconditionFailed: as for `patch`.
    """
    check_resource_type(ctx, resource_type)
    check_may(ctx, "u", resource_type)
    condition = parse_condition(ctx, resource_type, params)
    found = (await ctx.store.search(condition.query)).versions
    patched = None
    if len(found) == 1:
        check_preconditions(found[0].key, found[0], if_match)
        patched = await _apply_early(ctx, found[0], change)
    return await ctx.store.commit(_decide_conditional(ctx, condition, change, if_match, patched))


def decide(
    ctx: Context,
    key: ResourceKey,
    change: Patch,
    if_match: EntityTags | None = None,
    if_none_match: EntityTags | None = None,
    patched: Patched | None = None,
) -> Decision[Outcome]:
    """The decision of a patch; `patched` is what it made of the version that was read before."""

    def decide_patch(tx: Transaction) -> Outcome:
        current = _present(key, tx.read(key))
        check_preconditions(key, current, if_match, if_none_match)
        ready = patched
        # Another writer came first: theirs is what is patched, or their change were lost.
        if ready is None or ready.base != current.version_id:
            ready = apply(ctx, current, change, Budget())
        return put(tx, current, ready.resource), ready.issues

    return decide_patch


def apply(ctx: Context, current: Version, change: Patch, budget: Budget) -> Patched:
    """What `change` makes of `current`, checked.

    Raises:
        InvalidResource: it does not go with it, or leaves what breaks the rules.
        TooCostly: it asks for more than `budget` has.
    """
    budget.spend(len(current.body or b"") // _BYTES_PER_STEP)
    resource = links.localize(change.change(current.resource(), budget), ctx.base_url)
    return Patched(current.version_id, resource, check_resource(ctx, resource))


def put(tx: Transaction, current: Version, resource: Resource) -> Written:
    """Store `resource` behind `current`, unless that says the same."""
    if is_same_content(current, resource):
        return Written("unchanged", current)
    version, stored = next_version(current, current.key, resource, tx.now)
    tx.put(version, stored)
    return Written("updated", version)


def _decide_conditional(
    ctx: Context,
    condition: Condition,
    change: Patch,
    if_match: EntityTags | None,
    patched: Patched | None,
) -> Decision[Outcome]:
    def decide_conditional_patch(tx: Transaction) -> Outcome:
        # Searched where it commits: what matched before need not match now.
        key = find_match(tx, condition)
        if key is None:
            raise NotFound("no resource matches the condition")
        return decide(ctx, key, change, if_match, patched=patched)(tx)

    return decide_conditional_patch


async def _apply_early(ctx: Context, current: Version, change: Patch) -> Patched:
    # Before the commit, so that nobody else's waits for it.
    size = len(current.body or b"")
    if size < _APART_FROM_BYTES and change.size < _APART_FROM_PATCH_BYTES:
        return apply(ctx, current, change, Budget())
    return await asyncio.to_thread(apply, ctx, current, change, Budget())


def _present(key: ResourceKey, current: Version | None) -> Version:
    if current is None:
        raise NotFound(f"{key} is not known")
    return check_present(current)
