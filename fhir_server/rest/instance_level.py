"""Endpoints about one resource: read, vread, update, patch, delete, history.

https://hl7.org/fhir/R4/http.html#3.1.0
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from starlette.responses import Response

from fhir_server.core.subset import subset
from fhir_server.core.version import Version
from fhir_server.interactions import history as history_interaction
from fhir_server.interactions.delete import delete as delete_interaction
from fhir_server.interactions.patch import patch as patch_interaction
from fhir_server.interactions.read import is_unchanged
from fhir_server.interactions.read import read as read_interaction
from fhir_server.interactions.search import parse_part
from fhir_server.interactions.update import update as update_interaction
from fhir_server.interactions.vread import vread as vread_interaction
from fhir_server.rest import native_content, responses
from fhir_server.rest.request import FhirRequest


async def read(request: FhirRequest) -> Response:
    return await _version(request, await read_interaction(request.ctx, request.key))


async def vread(request: FhirRequest) -> Response:
    version = await vread_interaction(request.ctx, request.key, request.path[2])
    return await _version(request, version)


async def update(request: FhirRequest) -> Response:
    written, issues = await update_interaction(
        request.ctx,
        request.key,
        await request.resource(),
        request.entity_tags("if-match"),
        request.entity_tags("if-none-match"),
    )
    return responses.of_written(request, written, issues)


async def patch(request: FhirRequest) -> Response:
    written, issues = await patch_interaction(
        request.ctx,
        request.key,
        await request.patch(),
        request.entity_tags("if-match"),
        request.entity_tags("if-none-match"),
    )
    return responses.of_written(request, written, issues)


async def delete(request: FhirRequest) -> Response:
    written = await delete_interaction(request.ctx, request.key, request.entity_tags("if-match"))
    return responses.of_written(request, written)


async def history(request: FhirRequest) -> Response:
    body = await history_interaction.instance(
        request.ctx, request.key, request.params, is_strict=request.preferences.is_strict
    )
    return responses.of_body(request, body)


async def _version(request: FhirRequest, version: Version) -> Response:
    tags = request.entity_tags("if-none-match")
    since = _http_date(request.headers.get("if-modified-since"))
    if (tags or since) and await is_unchanged(request.ctx, version, tags, since):
        return responses.not_modified(version)
    if request.wants_content:
        return native_content.of_version(request, version)
    if request.params and version.body is not None:
        part = parse_part(request.ctx, version.key.resource_type, request.params)
        if part is not None:
            body = subset(version.body, part, request.ctx.element_types)
            return responses.of_version(request, version, body)
    return responses.of_version(request, version)


def _http_date(header: str | None) -> datetime | None:
    """The date of a header; one that is no date is as if it were not there (RFC 9110)."""
    if header is None:
        return None
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
