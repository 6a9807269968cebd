"""HTTP responses: versions as they are stored, Bundles, outcomes, and what a write did.

https://hl7.org/fhir/R4/http.html
"""

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

import msgspec
from starlette.responses import Response

from fhir_server.core import etag, resource_json, resource_xml
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.outcome import ALL_OK, operation_outcome
from fhir_server.core.version import Version
from fhir_server.errors import Issue
from fhir_server.interactions.written import Effect, Written
from fhir_server.rest.negotiation import is_xml
from fhir_server.rest.request import FhirRequest

STATUS_OF_EFFECT: Mapping[Effect, int] = {
    "created": 201,
    "updated": 200,
    "unchanged": 200,
    "matched": 200,
    "deleted": 204,
    "absent": 204,
}

# Below it, compressing costs more than the wire does.
GZIP_FROM_BYTES = 32 * 1024
# Above it, compressing would hold up the other requests.
_GZIP_APART_FROM_BYTES = 256 * 1024
_GZIP_LEVEL = 4
_XML_APART_FROM_BYTES = 32 * 1024


def of_version(request: FhirRequest, version: Version, body: bytes | None = None) -> Response:
    """A version, with what a cache wants to know; `body` where only a part is asked for."""
    content = version.body if body is None else body
    return Response(content, 200, {**_content(request), **version_headers(version)})


def of_body(request: FhirRequest, body: bytes, status: int = 200) -> Response:
    """A resource that has no version, such as a Bundle made for this answer."""
    return Response(body, status, _content(request))


def not_modified(version: Version) -> Response:
    return Response(None, 304, version_headers(version))


def of_written(request: FhirRequest, written: Written, issues: Sequence[Issue] = ()) -> Response:
    """What a write did, told as much about as the client prefers."""
    effect, version = written
    status = STATUS_OF_EFFECT[effect]
    headers = {} if version is None else version_headers(version)
    if version is not None and effect in ("created", "matched"):
        headers["Location"] = location(request.ctx.base_url, version)
    returns = request.preferences.returns
    if returns == "OperationOutcome":
        outcome = operation_outcome(tuple(issues) or ALL_OK)
        status = 200 if status == 204 else status
        return Response(resource_json.format(outcome), status, {**_content(request), **headers})
    if status == 204 or version is None or returns == "minimal":
        return Response(None, status, headers)
    return Response(version.body, status, {**_content(request), **headers})


def location(base_url: str, version: Version) -> str:
    """The absolute URL of a version."""
    return f"{base_url}/{version.key}/_history/{version.version_id}"


def version_headers(version: Version) -> dict[str, str]:
    headers = {"ETag": etag.format(version.version_id)}
    if not version.is_deletion:
        headers["Last-Modified"] = _format_http_date(version.last_updated)
    return headers


async def finish(request: FhirRequest, response: Response) -> Response:
    """`response` in the format, indented and compressed as the client asked."""
    body = bytes(response.body)
    if body and is_xml(request.media_type):
        body = await _in_xml(request, body)
    elif request.is_pretty and body:
        body = msgspec.json.format(body, indent=2)
    if len(body) >= GZIP_FROM_BYTES and accepts_gzip(request.headers.get("accept-encoding", "")):
        if len(body) >= _GZIP_APART_FROM_BYTES:
            body = await asyncio.to_thread(_gzip, body)
        else:
            body = _gzip(body)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept, Accept-Encoding"
    if body is not response.body:
        replace_body(response, body)
    return response


def replace_body(response: Response, body: bytes) -> None:
    response.body = body
    response.headers["Content-Length"] = str(len(body))


async def _in_xml(request: FhirRequest, body: bytes) -> bytes:
    types = request.ctx.element_types
    if len(body) >= _XML_APART_FROM_BYTES:
        return await asyncio.to_thread(to_xml, body, types, is_pretty=request.is_pretty)
    return to_xml(body, types, is_pretty=request.is_pretty)


def to_xml(body: bytes, types: ElementTypes, *, is_pretty: bool = False) -> bytes:
    """The XML of a resource that is JSON, as the server keeps them all.

    Raises:
        NotAcceptable: XML cannot say what it holds.
    """
    return resource_xml.format(resource_json.parse_resource(body), types, is_pretty=is_pretty)


def _content(request: FhirRequest) -> dict[str, str]:
    return {"Content-Type": f"{request.media_type}; charset=utf-8", "Vary": "Accept"}


# Whatever is committed together has one time.
@lru_cache(maxsize=1_024)
def _format_http_date(when: datetime) -> str:
    return format_datetime(when, usegmt=True)


def accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _gzip(body: bytes) -> bytes:
    stream = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()
