"""batch: each entry of a Bundle for itself; one that fails fails alone.

https://hl7.org/fhir/R4/http.html#batch
"""

import asyncio

from fhir_server.core import query_string
from fhir_server.core.bundle_request import (
    METHODS,
    RefusedEntry,
    RequestEntry,
    entity_tags,
    parse_entries,
    required_resource,
)
from fhir_server.core.identity import ResourceKey
from fhir_server.core.patch.entry import parse_entry
from fhir_server.core.resource_json import Resource
from fhir_server.errors import Issue, Unsupported
from fhir_server.interactions.conditional_delete import conditional_delete
from fhir_server.interactions.conditional_update import conditional_update
from fhir_server.interactions.context import Context
from fhir_server.interactions.create import create
from fhir_server.interactions.delete import delete
from fhir_server.interactions.entry_faults import placed
from fhir_server.interactions.entry_result import EntryResult, Failed, perform_reading
from fhir_server.interactions.patch import conditional_patch, patch
from fhir_server.interactions.update import update

# As many as one group commit takes well; more would only wait in the store's queue.
_AT_ONCE = 100


async def batch(
    ctx: Context, bundle: Resource, *, is_strict: bool = False
) -> tuple[EntryResult, ...]:
    """Carry out a batch Bundle; what became of each entry, in their order.

    Entries of one method are worked off together, so that they share commits; the
    methods follow each other as in a transaction.
    """
    entries = parse_entries(bundle, ctx.base_url, ctx.limits.bundle_entries)
    results: dict[int, EntryResult] = {
        entry.position: Failed(entry.error) for entry in entries if isinstance(entry, RefusedEntry)
    }
    understood = [entry for entry in entries if isinstance(entry, RequestEntry)]
    for method in METHODS:
        turn = [entry for entry in understood if entry.method == method]
        for start in range(0, len(turn), _AT_ONCE):
            part = turn[start : start + _AT_ONCE]
            done = await asyncio.gather(
                *(_perform(ctx, entry, is_strict=is_strict) for entry in part),
                return_exceptions=True,
            )
            for entry, result in zip(part, done, strict=True):
                if isinstance(result, Exception):
                    results[entry.position] = Failed(result)
                elif isinstance(result, BaseException):
                    raise result
                else:
                    results[entry.position] = result
    return tuple(results[index] for index in range(len(entries)))


async def _perform(ctx: Context, entry: RequestEntry, *, is_strict: bool) -> EntryResult:
    with placed(entry.position):
        match entry.method, entry.path:
            case (("GET" | "HEAD"), _):
                return await perform_reading(ctx, entry, is_strict=is_strict)
            case "POST", (*_, name) if name.startswith("$"):
                return await perform_reading(ctx, entry, is_strict=is_strict)
            case "POST", (*searched, "_search"):
                posted = entry._replace(path=tuple(searched))
                return await perform_reading(ctx, posted, is_strict=is_strict)
            case "POST", (resource_type,):
                params = None
                if entry.if_none_exist is not None:
                    params = query_string.parse_condition(entry.if_none_exist)
                written, _ = await create(ctx, resource_type, required_resource(entry), params)
                return written
            case "PUT", (resource_type, resource_id):
                key = ResourceKey(resource_type, resource_id)
                conditions = entity_tags(entry.if_match), entity_tags(entry.if_none_match)
                written, _ = await update(ctx, key, required_resource(entry), *conditions)
                return written
            case "PUT", (resource_type,):
                written, _ = await conditional_update(
                    ctx,
                    resource_type,
                    required_resource(entry),
                    entry.params,
                    entity_tags(entry.if_match),
                    entity_tags(entry.if_none_match),
                )
                return written
            case "PATCH", (resource_type, resource_id):
                key = ResourceKey(resource_type, resource_id)
                change = parse_entry(required_resource(entry), ctx.element_types)
                conditions = entity_tags(entry.if_match), entity_tags(entry.if_none_match)
                written, _ = await patch(ctx, key, change, *conditions)
                return written
            case "PATCH", (resource_type,):
                change = parse_entry(required_resource(entry), ctx.element_types)
                if_match = entity_tags(entry.if_match)
                written, _ = await conditional_patch(
                    ctx, resource_type, entry.params, change, if_match
                )
                return written
            case "DELETE", (resource_type,):
                if_match = entity_tags(entry.if_match)
                written, _ = await conditional_delete(ctx, resource_type, entry.params, if_match)
                return written
            case "DELETE", (resource_type, resource_id):
                key = ResourceKey(resource_type, resource_id)
                return await delete(ctx, key, entity_tags(entry.if_match))
        diagnostics = f"{entry.method} of this is not done in a batch"
        at = f"{entry.expression}.request.url"
        raise Unsupported(issues=(Issue("not-supported", diagnostics, at),))
