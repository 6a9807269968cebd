"""What became of one entry of a batch or transaction, and the reads among them.

https://hl7.org/fhir/R4/http.html#transaction-response
"""

from datetime import datetime
from typing import NamedTuple

from fhir_server.core import etag, operation_input
from fhir_server.core.bundle_request import RequestEntry
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.errors import InvalidRequest, NotFound
from fhir_server.interactions import capabilities, history, search
from fhir_server.interactions.compartment_search import compartment_search
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import invoke
from fhir_server.interactions.read import is_unchanged, read
from fhir_server.interactions.system_search import system_search
from fhir_server.interactions.vread import vread
from fhir_server.interactions.written import Written


class Found(NamedTuple):
    """A version that was read."""

    version: Version


class Unchanged(NamedTuple):
    """A version that the client has already."""

    version: Version


class Answer(NamedTuple):
    """A resource made for this answer, such as a searchset."""

    body: bytes


class Failed(NamedTuple):
    """The entry failed alone."""

    error: Exception


EntryResult = Written | Found | Unchanged | Answer | Failed


async def perform_reading(ctx: Context, entry: RequestEntry, *, is_strict: bool) -> EntryResult:
    """The answer to an entry that reads: GET, HEAD, a posted search, an operation.

    Raises:
        FhirError: what the interaction raises.
    """
    match entry.path:
        case (*_, name) if name.startswith("$"):
            return Answer(await _invoke(ctx, entry, is_strict=is_strict))
        case ():
            return Answer(await system_search(ctx, entry.params, is_strict=is_strict))
        case ("metadata",):
            return Answer(capabilities.capabilities(ctx))
        case ("_history",):
            return Answer(await history.system(ctx, entry.params))
        case (resource_type,):
            return Answer(
                await search.search(ctx, resource_type, entry.params, is_strict=is_strict)
            )
        case (resource_type, "_history"):
            return Answer(await history.of_type(ctx, resource_type, entry.params))
        case (resource_type, resource_id):
            key = ResourceKey(resource_type, resource_id)
            return await _answer(ctx, entry, await read(ctx, key))
        case (resource_type, resource_id, "_history"):
            key = ResourceKey(resource_type, resource_id)
            return Answer(await history.instance(ctx, key, entry.params))
        case (resource_type, resource_id, "_history", version_id):
            key = ResourceKey(resource_type, resource_id)
            return await _answer(ctx, entry, await vread(ctx, key, version_id))
        case (resource_type, resource_id, member):
            key = ResourceKey(resource_type, resource_id)
            return Answer(
                await compartment_search(ctx, key, member, entry.params, is_strict=is_strict)
            )
    raise NotFound("nothing is to be read at the URL of this entry")


async def _invoke(ctx: Context, entry: RequestEntry, *, is_strict: bool) -> bytes:
    """The answer of the operation that an entry calls."""
    target = entry.path[:-1]
    inputs = operation_input.of_params(entry.params)
    if entry.method == "POST" and entry.resource is not None:
        inputs = operation_input.of_resource(entry.resource)
    name = entry.path[-1].removeprefix("$")
    is_read_only = entry.method != "POST"
    return await invoke(ctx, name, target, inputs, is_strict=is_strict, is_read_only=is_read_only)


async def _answer(ctx: Context, entry: RequestEntry, version: Version) -> EntryResult:
    tags = None if entry.if_none_match is None else etag.parse(entry.if_none_match)
    since = None if entry.if_modified_since is None else _parse_instant(entry.if_modified_since)
    return Unchanged(version) if await is_unchanged(ctx, version, tags, since) else Found(version)


def _parse_instant(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest("ifModifiedSince is an instant") from None
    if when.tzinfo is None:
        raise InvalidRequest("ifModifiedSince is an instant, it has a time zone")
    return when
