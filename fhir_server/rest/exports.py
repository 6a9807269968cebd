"""Bulk exports over HTTP: asked for, looked after, fetched, taken away.

https://hl7.org/fhir/uv/bulkdata/export.html#sequence-overview
"""

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from email.utils import format_datetime
from time import monotonic

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fhir_server.core import operation_input, resource_json
from fhir_server.core.bulk import job as export_job
from fhir_server.core.bulk.request import ExportLevel
from fhir_server.core.outcome import operation_outcome
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, Issue, NotFound, Throttled
from fhir_server.operations import export
from fhir_server.operations.export_recheck import recheck
from fhir_server.rest.byte_range import ByteRange, parse_range
from fhir_server.rest.dispatch import FhirRoute
from fhir_server.rest.request import FhirRequest
from fhir_server.rest.responses import accepts_gzip

NDJSON = "application/fhir+ndjson"

_STATUS, _FILE = "$export-status", "$export-file"
_LEVELS: dict[str, ExportLevel] = {"Patient": "patient", "Group": "group"}
_INFLATED_AT_ONCE = 256 * 1024
# Looks at one job that may follow each other before its client has to wait.
_LOOKS = 10
_LOOKS_PER_SECOND = 1.0
_MOST_LOOKED_AT = 10_000
_SOONEST, _LATEST = 1, 30


def export_routes() -> Iterator[FhirRoute]:
    """The routes of $export, of its status and of its files."""
    for method in ("GET", "POST"):
        yield FhirRoute(method, "/$export", kick_off, "export-system")
        yield FhirRoute(method, "/Patient/$export", kick_off, "export-type")
        yield FhirRoute(method, "/Group/{id}/$export", kick_off, "export-instance")
    yield FhirRoute("GET", f"/{_STATUS}/{{id}}", tell, "export-status")
    yield FhirRoute("DELETE", f"/{_STATUS}/{{id}}", cancel, "export-cancel")
    yield FhirRoute("GET", f"/{_FILE}/{{id}}/{{file}}", send_file, "export-file")


async def kick_off(request: FhirRequest) -> Response:
    """202 with the address of the job, which is durable by then."""
    level, group = _level(request.path)
    preferences = request.preferences
    if not preferences.is_async:
        raise InvalidRequest("an export takes a while: ask with the header Prefer: respond-async")
    is_posted = request.method == "POST"
    name = await export.kick_off(
        request.ctx,
        level,
        group,
        await _posted(request) if is_posted else request.params,
        _url(request),
        is_lenient=preferences.is_lenient,
        is_posted=is_posted,
    )
    said = Issue("informational", "the export has begun", severity="information")
    return Response(
        resource_json.format(operation_outcome((said,))),
        202,
        {
            "Content-Location": f"{request.ctx.base_url}/{_STATUS}/{name}",
            "Content-Type": f"{request.media_type}; charset=utf-8",
        },
    )


async def tell(request: FhirRequest) -> Response:
    """202 while it is made, 200 with the manifest, 500 with what went wrong."""
    name = request.path[0]
    job = await export.find(request.ctx, name)
    if job.state == "waiting":
        _looks.count(name)
        age = (request.ctx.now() - job.at).total_seconds()
        wait = min(max(_SOONEST, int(age / 10)), _LATEST)
        return Response(None, 202, {"X-Progress": job.progress, "Retry-After": str(wait)})
    if job.failure is not None:
        code, why = job.failure
        body = operation_outcome((Issue(code, why),))
        content_type = f"{request.media_type}; charset=utf-8"
        return Response(resource_json.format(body), 500, {"Content-Type": content_type})
    manifest = export_job.manifest(
        job,
        f"{request.ctx.base_url}/{_FILE}/{name}",
        is_token_needed=request.ctx.reach is not None,
    )
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if job.expires is not None:
        headers["Expires"] = format_datetime(job.expires.replace(microsecond=0), usegmt=True)
    return Response(resource_json.format(manifest), 200, headers)


async def cancel(request: FhirRequest) -> Response:
    """202: it is ended, and its files are gone."""
    await export.cancel(request.ctx, request.path[0])
    said = Issue("informational", "the export is ended", severity="information")
    headers = {"Content-Type": f"{request.media_type}; charset=utf-8"}
    return Response(resource_json.format(operation_outcome((said,))), 202, headers)


async def send_file(request: FhirRequest) -> Response:
    """A file or a part of it, as gzip where the client takes that."""
    name, file_name = request.path
    found, is_as_made = await export.find_file(request.ctx, name, file_name)
    store = request.ctx.exports
    if store is None:
        raise NotFound("there is no such file")
    if not is_as_made:
        # Somebody has left the reach of whoever asks: what is theirs stays behind.
        lines = _stream(store.portions(name, found.name), is_inflated=True)
        shown = recheck(request.ctx, found.kind, found.type, lines)
        return _StreamResponse(shown, 200, {"Content-Type": NDJSON, "Cache-Control": "no-store"})
    is_gzip = accepts_gzip(request.headers.get("accept-encoding", ""))
    size = found.size if is_gzip else found.length
    tag = f'"{found.name}{"-gzip" if is_gzip else ""}"'
    headers = {
        "Content-Type": NDJSON,
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Vary": "Accept-Encoding",
        "Cache-Control": "no-store",
    }
    if is_gzip:
        headers["Content-Encoding"] = "gzip"
    wanted = parse_range(request.headers.get("range"), size)
    if wanted is None or request.headers.get("if-range", tag) != tag:
        wanted, status = ByteRange(0, size), 200
    elif not wanted.length:
        return Response(None, 416, {**headers, "Content-Range": f"bytes */{size}"})
    else:
        status = 206
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.end - 1}/{size}"
    headers["Content-Length"] = str(wanted.length)
    portions = _stream(store.portions(name, found.name), is_inflated=not is_gzip)
    return _StreamResponse(_cut(portions, wanted), status, headers)


class _StreamResponse(Response):
    """Sends a body portion by portion."""

    def __init__(self, body: AsyncIterator[bytes], status: int, headers: dict[str, str]) -> None:
        super().__init__(None, status, headers)
        if "Content-Length" not in headers:
            del self.headers["Content-Length"]
        self._portions = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_wanted = scope["method"] != "HEAD"
        # What is gone is told before anything is.
        first = await anext(self._portions, b"") if is_wanted else b""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        if is_wanted:
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for part in self._portions:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _stream(portions: Iterator[bytes], *, is_inflated: bool) -> AsyncIterator[bytes]:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    while (portion := await asyncio.to_thread(next, portions, None)) is not None:
        if not is_inflated:
            yield portion
            continue
        while portion:
            lines = await asyncio.to_thread(inflater.decompress, portion, _INFLATED_AT_ONCE)
            portion = inflater.unconsumed_tail
            if lines:
                yield lines


async def _cut(portions: AsyncIterator[bytes], wanted: ByteRange) -> AsyncIterator[bytes]:
    """The bytes that are wanted."""
    place = 0
    async for portion in portions:
        part = portion[max(0, wanted.start - place) : wanted.end - place]
        place += len(portion)
        if part:
            yield part
        if place >= wanted.end:
            break


class _Looks:
    """How often jobs are looked at, in this process."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, name: str) -> None:
        """Raises `Throttled` where looks follow each other too fast."""
        now = monotonic()
        left, last = self._left.pop(name, (float(_LOOKS), now))
        left = min(float(_LOOKS), left + (now - last) * _LOOKS_PER_SECOND)
        self._left[name] = (max(0.0, left - 1), now)
        if len(self._left) > _MOST_LOOKED_AT:
            self._left.popitem(last=False)
        if left < 1:
            raise Throttled("the export is not done sooner by being looked at", 10)


_looks = _Looks()


def _level(path: tuple[str, ...]) -> tuple[ExportLevel, str | None]:
    if not path:
        return "system", None
    level = _LEVELS.get(path[0])
    if level is None or (level == "group") != (len(path) == 2):
        raise NotFound("exports are of everything, of Patient, and of Group/[id]")
    return level, path[1] if level == "group" else None


def _url(request: FhirRequest) -> str:
    path = "/".join((request.ctx.base_url, *request.path, "$export"))
    return f"{path}?{request.query}" if request.query else path


async def _posted(request: FhirRequest) -> Params:
    """What stands in the URL, and in the Parameters or the form in the body."""
    if request.is_form:
        return await request.form()
    if not request.has_body:
        return request.params
    resource = await request.resource()
    posted = operation_input.of_resource(_with_plain_references(resource)).params()
    return (*request.params, *posted)


def _with_plain_references(parameters: Resource) -> Resource:
    """Parameters with the text of each Reference in its place."""
    found = parameters.get("parameter")
    if not isinstance(found, list):
        return parameters
    plain = []
    for each in found:
        value = each.get("valueReference") if isinstance(each, dict) else None
        if isinstance(value, dict):
            each = {"name": each.get("name"), "valueString": value.get("reference", "")}
        plain.append(each)
    return {**parameters, "parameter": plain}
