"""A file is fetched later than it was made: who left the asker's reach meanwhile is left out.

A consent that is withdrawn acts with the next request, and to fetch a file is one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import islice

import msgspec

from fhir_server.core import links, resource_json
from fhir_server.core.bulk.job import ExportJob, FileKind
from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import Clause, Query, TokenValue
from fhir_server.core.security import subscriber
from fhir_server.errors import Forbidden, Gone
from fhir_server.interactions import access
from fhir_server.interactions.access import Access
from fhir_server.interactions.context import Context

_AT_ONCE = 200


class _Named(msgspec.Struct):
    id: str


_named = msgspec.json.Decoder(_Named)


def mark(ctx: Context, job: ExportJob) -> str:
    """Within whose reach a file of the job is made, or would be now. It may take a moment."""
    if ctx.reach is None or job.principal is None:
        return ""
    scopes = subscriber.parse_principal(job.principal).scopes
    return ctx.reach.mark(frozenset(scope.context for scope in scopes))


async def recheck(
    ctx: Context, kind: FileKind, resource_type: str, portions: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The lines of what is within reach now.

    Raises:
        Gone: it cannot be told any more.
    """
    rest = b""
    async for portion in portions:
        *lines, rest = (rest + portion).split(b"\n")
        waiting = iter(lines)
        while some := list(islice(waiting, _AT_ONCE)):
            # A task of its own: all of it is on record since it was written.
            shown = await asyncio.create_task(_recheck(ctx, kind, resource_type, some))
            if shown:
                yield b"\n".join(shown) + b"\n"


async def _recheck(
    ctx: Context, kind: FileKind, resource_type: str, lines: Sequence[bytes]
) -> list[bytes]:
    access.begin(Access("GET", "", "", find_interaction=lambda: "export-file"))
    if kind == "deleted":
        return [shown for line in lines if (shown := await _deletions(ctx, line))]
    names = [_named.decode(line).id for line in lines]
    parameter = ctx.parameters.get(resource_type, "_id")
    if parameter is None:
        return []
    clause = Clause(parameter, "", tuple(TokenValue(None, name) for name in names))
    query = Query(resource_type, (clause,), count=len(names), restriction=ctx.principal.restriction)
    try:
        page = await ctx.store.search(query)
    except Forbidden:
        # De-identified names say nothing of whose they are.
        raise Gone("consents have changed since: export again") from None
    found = {version.key.resource_id for version in page.versions}
    return [line for name, line in zip(names, lines, strict=True) if name in found]


async def _deletions(ctx: Context, line: bytes) -> bytes:
    bundle = resource_json.parse_resource(line)
    entries = []
    for entry in bundle["entry"]:
        key: ResourceKey | None = links.parse_local(entry["request"]["url"])
        if key is not None and await ctx.store.read(key) is not None:
            entries.append(entry)
    return resource_json.format({**bundle, "entry": entries}) if entries else b""
