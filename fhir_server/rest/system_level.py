"""Endpoints about the whole server: capabilities, batch and transaction, search, history.

https://hl7.org/fhir/R4/http.html#3.1.0
"""

from starlette.responses import Response

from fhir_server.core.bundle_request import parse_type
from fhir_server.core.query_string import Params
from fhir_server.errors import InvalidRequest, Issue
from fhir_server.interactions import history as history_interaction
from fhir_server.interactions.batch import batch
from fhir_server.interactions.capabilities import capabilities as capabilities_interaction
from fhir_server.interactions.capabilities import terminology as terminology_interaction
from fhir_server.interactions.capabilities import where_tokens_are_had
from fhir_server.interactions.system_search import system_search
from fhir_server.interactions.transaction import transaction
from fhir_server.rest import bundle_responses, responses
from fhir_server.rest.request import FhirRequest


async def capabilities(request: FhirRequest) -> Response:
    mode = dict(request.params).get("mode", "full")
    if mode not in ("full", "normative", "terminology"):
        raise InvalidRequest(issues=(Issue("value", "full, normative or terminology", "mode"),))
    if mode == "terminology":
        return responses.of_body(request, terminology_interaction(request.ctx))
    return responses.of_body(request, capabilities_interaction(request.ctx))


async def smart_configuration(request: FhirRequest) -> Response:
    return Response(where_tokens_are_had(request.ctx), media_type="application/json")


async def batch_or_transaction(request: FhirRequest) -> Response:
    bundle = await request.resource()
    kind = parse_type(bundle)
    perform = batch if kind == "batch" else transaction
    preferences = request.preferences
    results = await perform(request.ctx, bundle, is_strict=preferences.is_strict)
    body = bundle_responses.render(kind, request.ctx.base_url, results, preferences.returns)
    return responses.of_body(request, body)


async def search(request: FhirRequest) -> Response:
    return await _search(request, request.params)


async def search_by_post(request: FhirRequest) -> Response:
    return await _search(request, await request.form())


async def history(request: FhirRequest) -> Response:
    body = await history_interaction.system(
        request.ctx, request.params, is_strict=request.preferences.is_strict
    )
    return responses.of_body(request, body)


async def _search(request: FhirRequest, params: Params) -> Response:
    body = await system_search(request.ctx, params, is_strict=request.preferences.is_strict)
    return responses.of_body(request, body)
