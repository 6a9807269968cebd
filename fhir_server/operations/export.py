"""$export: a job is kept, looked after, and taken away again by whoever asked for it.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

import asyncio
from datetime import timedelta
from hashlib import sha256
from typing import NamedTuple

import msgspec

from fhir_server.core.bulk import job as export_job
from fhir_server.core.bulk import request as export_request
from fhir_server.core.bulk.job import ExportFile, ExportJob
from fhir_server.core.bulk.request import ExportLevel
from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.core.security import subscriber
from fhir_server.core.security.principal import Principal
from fhir_server.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    StoreUnavailable,
    Throttled,
    Unsupported,
)
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_may
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read
from fhir_server.operations.export_lease import kept_jobs
from fhir_server.operations.export_plan import PATIENT, criteria
from fhir_server.operations.export_recheck import mark
from fhir_server.store.exports.protocol import ExportStore, JobRecord

_AUDIT_EVENT = "AuditEvent"
_MOST_TRIES = 20
_LONGEST_WAIT = 3_600


async def refuse(_ctx: Context, _call: Invocation) -> bytes:
    """Where an operation has to be answered at once, such as in a Bundle.

    Raises:
        InvalidRequest: always.
    """
    raise InvalidRequest("an export is asked for by itself, with Prefer: respond-async")


async def kick_off(
    ctx: Context,
    level: ExportLevel,
    group: str | None,
    params: Params,
    url: str,
    *,
    is_lenient: bool,
    is_posted: bool,
) -> str:
    """The name of a new job, which is durable.

    Raises:
        NotFound, Gone: there is no such group.
        Forbidden: no scope lets it search what it asks for.
        InvalidRequest, InvalidSearch: a parameter means nothing.
        Throttled: the client has as many exports as one may have.
    """
    store = _store(ctx)
    known = ctx.validator.resource_types
    if level != "system":
        known &= ctx.compartments.resource_types(PATIENT)
    if ctx.is_audited:
        known -= {_AUDIT_EVENT}
    request = export_request.parse(
        params,
        known,
        is_lenient=is_lenient,
        takes_patients=is_posted and level != "system",
    )
    types = request.types or _searchable(ctx, sorted(known))
    for name in types:
        check_may(ctx, "s", name)
    version = None
    if group is not None:
        version = await read(ctx, ResourceKey("Group", group))
    principal = ctx.reach.principal if ctx.reach else None
    job = ExportJob(
        url,
        ctx.base_url,
        ctx.now(),
        level,
        request,
        types,
        owner=_owner(principal),
        principal=None if principal is None else subscriber.format_principal(principal),
        group=None if group is None or version is None else (group, version.version_id),
    )
    await criteria(ctx, job)
    await asyncio.to_thread(_check_room, ctx, store, job)
    name = ctx.new_id()
    await asyncio.to_thread(store.add, name, export_job.format(job))
    try:
        # Of two that came at once both may find themselves one too many, and none is.
        await asyncio.to_thread(_check_room, ctx, store, job, 1)
    except Throttled:
        await asyncio.to_thread(store.remove, name)
        raise
    return name


async def find(ctx: Context, name: str) -> ExportJob:
    """The job, if it is the principal's and not over.

    Raises:
        NotFound: it is not; also where it is somebody else's.
    """
    return (await _find(ctx, name))[1]


class FoundFile(NamedTuple):
    """`is_as_made`: nobody came into the principal's reach since, or left it."""

    file: ExportFile
    is_as_made: bool


async def find_file(ctx: Context, name: str, file: str) -> FoundFile:
    """A file of a job that is done.

    Raises:
        NotFound: there is none.
        Forbidden: the token has less scopes than the file was made by.
    """
    job = await find(ctx, name)
    found = job.file(file) if job.state == "done" else None
    if found is None:
        raise NotFound("there is no such file, or its time is over")
    if job.principal is not None and ctx.reach is not None:
        made_by = subscriber.parse_principal(job.principal)
        needed = {
            scope
            for scope in made_by.scopes
            if found.kind != "output" or scope.covers(found.type, "s")
        }
        if not needed.issubset(ctx.reach.principal.scopes):
            raise Forbidden("the token has less scopes than the one the export was asked by")
        is_as_made = found.mark == await asyncio.to_thread(mark, ctx, job)
        return FoundFile(found, is_as_made or found.kind == "error")
    return FoundFile(found, is_as_made=True)


async def cancel(ctx: Context, name: str) -> None:
    """End a job and take its files away.

    Raises:
        NotFound: there is no such job of the principal.
    """
    store = _store(ctx)
    for _ in range(_MOST_TRIES):
        record, job = await _find(ctx, name)
        ended = msgspec.structs.replace(job, state="ended", holder="", until=None)
        # Whoever works on it writes how far it is, and so is in between at times.
        if await asyncio.to_thread(store.replace, record, export_job.format(ended)):
            await asyncio.to_thread(store.remove, name)
            return
    raise StoreUnavailable("the export changes too often to be ended now")


async def _find(ctx: Context, name: str) -> tuple[JobRecord, ExportJob]:
    record = await asyncio.to_thread(_store(ctx).find, name)
    if record is not None:
        try:
            job = export_job.parse(record.text)
        except ValueError:
            raise Unsupported("the export is a newer release's") from None
        is_over = job.expires is not None and job.expires <= ctx.now()
        owner = _owner(ctx.reach.principal if ctx.reach else None)
        if job.state != "ended" and not is_over and job.owner == owner:
            return record, job
    raise NotFound("there is no such export, or its time is over")


def _searchable(ctx: Context, known: list[str]) -> tuple[str, ...]:
    found = [name for name in known if ctx.reach is None or ctx.reach.grants("s", name)]
    if not found:
        raise Forbidden("no scope of the token lets it search anything that is exported here")
    return tuple(found)


def _check_room(ctx: Context, store: ExportStore, job: ExportJob, own: int = 0) -> None:
    """Raises `Throttled` where the client has all it may have; `own` of it are this one."""
    now = ctx.now()
    mine = [
        each
        for _, each in kept_jobs(store)
        if each.owner == job.owner
        and each.state != "ended"
        and (each.expires is None or each.expires > now)
    ]
    if len(mine) - own < ctx.limits.exports:
        return
    ends = [each.expires for each in mine if each.expires is not None]
    wait = min(ends, default=now + timedelta(minutes=2)) - now
    raise Throttled(
        f"a client has at most {ctx.limits.exports} exports at a time: delete one that was fetched",
        min(max(1, int(wait.total_seconds())), _LONGEST_WAIT),
    )


def _owner(principal: Principal | None) -> str:
    """What tells one who asks from all others, whatever token and scopes they have this time."""
    if principal is None:
        return ""
    said = (
        principal.kind,
        principal.client_id,
        principal.subject,
        str(principal.patient or ""),
        str(principal.fhir_user or ""),
        principal.purposes,
        sorted(principal.roles),
    )
    return sha256(msgspec.json.encode(said)).hexdigest()


def _store(ctx: Context) -> ExportStore:
    if ctx.exports is None:
        raise Unsupported("this server keeps no exports")
    return ctx.exports
