"""Enrolments over HTTP: a prescription of a device kit in, the resources it made out."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fhir_server.core import etag, resource_json
from fhir_server.core.mapping.catalog import BrokenMapping
from fhir_server.core.mapping.reading import Fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant
from fhir_server.errors import InvalidResource, Issue, NotFound
from fhir_server.interactions.context import Context
from fhir_server.operations.enrol import Enrolled, enrol
from fhir_server.rest.asking import BOM, find_mapping, parameters
from fhir_server.rest.authorizing import authorized, check_enrolling
from fhir_server.rest.body import read_body
from fhir_server.rest.negotiation import FHIR_JSON
from fhir_server.rest.request import decode_headers


async def send_enrolment(request: Request) -> Response:
    """A prescription of a device kit; the Bundle says what was made and what was there."""
    state, headers = request.app.state, decode_headers(request.scope)
    check_enrolling(await authorized(state, state.context, request.scope, headers))
    ctx: Context = state.context
    name = request.path_params["mapping"]
    mapping = find_mapping(request, name)
    if isinstance(mapping, BrokenMapping):
        raise NotFound(f"the enrolment mapping {name} has faults and is not in use")
    if not mapping.is_enrolment:
        raise NotFound(f"{name} maps readings, no enrolments")
    parameters(request)
    body = await read_body(request.receive, headers, ctx.limits.body_bytes)
    prescription = mapping.prescription(resource_json.parse(body.removeprefix(BOM)))
    if isinstance(prescription, Fault):
        raise InvalidResource(issues=(Issue("invalid", prescription.detail),))
    enrolled = await enrol(ctx, prescription)
    is_new = any(part.is_new for part in enrolled)
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [_entry(part) for part in enrolled],
    }
    return Response(
        resource_json.format(bundle),
        201 if is_new else 200,
        {"Content-Type": f"{FHIR_JSON}; charset=utf-8"},
    )


def _entry(part: Enrolled) -> Resource:
    version = part.version
    return {
        "resource": msgspec.Raw(version.body or b"{}"),
        "response": {
            "status": "201 Created" if part.is_new else "200 OK",
            "location": f"{version.key}/_history/{version.version_id}",
            "etag": etag.format(version.version_id),
            "lastModified": format_instant(version.last_updated),
        },
    }
