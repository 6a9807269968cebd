"""What requests about readings have in common: parameters, mappings, answers."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from fhir_server.core import query_string, resource_json
from fhir_server.core.mapping.catalog import BrokenMapping, MappingCatalog
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, NotFound
from fhir_server.rest import error_handler
from fhir_server.rest.body import ClientDisconnectedError

BOM = b"\xef\xbb\xbf"

Endpoint = Callable[[Request], Awaitable[Response]]


def parameters(request: Request, *known: str) -> tuple[tuple[str, str], ...]:
    """The query's parameters; a misspelt one is refused, never overlooked."""
    params = query_string.parse(request.scope["query_string"].decode("latin-1"))
    names = [name for name, _ in params]
    for name in names:
        if name not in known:
            raise InvalidRequest(f"no parameter is called {name[:40]}; known: {', '.join(known)}")
        if name != "quarantine" and names.count(name) > 1:
            raise InvalidRequest(f"{name} is given more than once")
    return params


def find_mapping(request: Request, name: str) -> Mapping | BrokenMapping:
    mappings: MappingCatalog = request.app.state.mappings
    mapping = mappings.get(name)
    if mapping is None:
        raise NotFound("no mapping has that name")
    return mapping


def json_response(answer: Resource) -> Response:
    return Response(resource_json.format(answer), media_type="application/json")


def answering(endpoint: Endpoint) -> Endpoint:
    """`endpoint` with its errors answered as OperationOutcomes."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnectedError:
            return Response(None, 400)
        except Exception as error:
            return error_handler.respond(error)

    return answer
