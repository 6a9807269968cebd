"""Endpoints about a resource type: create, search, history, conditional writes.

https://hl7.org/fhir/R4/http.html#3.1.0
"""

from starlette.responses import Response

from fhir_server.core import query_string
from fhir_server.core.query_string import Params
from fhir_server.errors import InvalidRequest
from fhir_server.interactions import history as history_interaction
from fhir_server.interactions.conditional_delete import (
    conditional_delete as conditional_delete_interaction,
)
from fhir_server.interactions.conditional_update import (
    conditional_update as conditional_update_interaction,
)
from fhir_server.interactions.create import create as create_interaction
from fhir_server.interactions.patch import conditional_patch as conditional_patch_interaction
from fhir_server.interactions.search import search as search_interaction
from fhir_server.rest import responses
from fhir_server.rest.request import FhirRequest


async def create(request: FhirRequest) -> Response:
    condition = _condition(request)
    written, issues = await create_interaction(
        request.ctx, request.path[0], await request.resource(), condition
    )
    return responses.of_written(request, written, issues)


def _condition(request: FhirRequest) -> Params | None:
    """`If-None-Exist`. Some clients put it behind the URL; ignored there it would be lost.

    Raises:
        InvalidRequest: it is in both places.
    """
    header = request.headers.get("if-none-exist")
    if header is None:
        return request.params or None
    if request.params:
        raise InvalidRequest("the condition of a create is either If-None-Exist or in the URL")
    return query_string.parse_condition(header)


async def conditional_update(request: FhirRequest) -> Response:
    written, issues = await conditional_update_interaction(
        request.ctx,
        request.path[0],
        await request.resource(),
        request.params,
        request.entity_tags("if-match"),
        request.entity_tags("if-none-match"),
    )
    return responses.of_written(request, written, issues)


async def conditional_patch(request: FhirRequest) -> Response:
    written, issues = await conditional_patch_interaction(
        request.ctx,
        request.path[0],
        request.params,
        await request.patch(),
        request.entity_tags("if-match"),
    )
    return responses.of_written(request, written, issues)


async def conditional_delete(request: FhirRequest) -> Response:
    written, issues = await conditional_delete_interaction(
        request.ctx, request.path[0], request.params, request.entity_tags("if-match")
    )
    return responses.of_written(request, written, issues)


async def search(request: FhirRequest) -> Response:
    return await _search(request, request.params)


async def search_by_post(request: FhirRequest) -> Response:
    return await _search(request, await request.form())


async def history(request: FhirRequest) -> Response:
    body = await history_interaction.of_type(
        request.ctx, request.path[0], request.params, is_strict=request.preferences.is_strict
    )
    return responses.of_body(request, body)


async def _search(request: FhirRequest, params: Params) -> Response:
    is_strict = request.preferences.is_strict
    body = await search_interaction(request.ctx, request.path[0], params, is_strict=is_strict)
    return responses.of_body(request, body)
