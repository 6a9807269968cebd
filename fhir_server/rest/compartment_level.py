"""Endpoints about a compartment: what belongs to a patient, a device, an encounter.

https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from starlette.responses import Response

from fhir_server.core.query_string import Params
from fhir_server.interactions.compartment_search import compartment_search
from fhir_server.rest import responses
from fhir_server.rest.request import FhirRequest


async def search(request: FhirRequest) -> Response:
    return await _search(request, request.params)


async def search_by_post(request: FhirRequest) -> Response:
    return await _search(request, await request.form())


async def _search(request: FhirRequest, params: Params) -> Response:
    is_strict = request.preferences.is_strict
    member = request.path[2]
    body = await compartment_search(request.ctx, request.key, member, params, is_strict=is_strict)
    return responses.of_body(request, body)
