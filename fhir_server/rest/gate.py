"""Gate: nobody gets to any path without showing who they are, but for those that are open.

What is open is listed; a path that is on no list, whether there is something at it or not,
is asked for a token first. https://www.rfc-editor.org/rfc/rfc6750#section-3
"""

from collections.abc import Mapping
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_server.core.security.principal import Principal
from fhir_server.errors import FhirError, Forbidden, Unauthenticated
from fhir_server.rest import error_handler, responses
from fhir_server.rest.authenticator import Authenticator, Nobody
from fhir_server.rest.dispatch import media_type_of, route_path
from fhir_server.rest.negotiation import is_xml
from fhir_server.rest.request import decode_headers

OPERATOR = "operator"
"""The role of those who look after the server."""

OPEN = frozenset(
    {
        "/.well-known/openid-configuration",
        "/auth/authorize",
        "/auth/keys",
        "/auth/revoke",
        "/auth/token",
        "/docs",
        "/fhir/.well-known/smart-configuration",
        "/fhir/metadata",
        "/health/live",
        "/health/ready",
        "/openapi.json",
    }
)
"""What anyone may ask: nothing in it is about a patient."""

_METRICS = "/metrics"
_READINGS = "/readings/"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
_CHALLENGE = 'Bearer realm="fhir"'


class Gate:
    """Stands before `app`. `state.authenticator` says who asks; `state.own_doors` are paths of
    those who check by themselves who comes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["app"].state
        authenticator: Authenticator = state.authenticator
        path = route_path(scope)
        if isinstance(authenticator, Nobody) or path in OPEN or path in state.own_doors:
            await self._app(scope, receive, send)
            return
        headers = decode_headers(scope)
        if path == _METRICS and _is_at_home(scope, headers):
            await self._app(scope, receive, send)
            return
        try:
            principal = await authenticator.authenticate(scope, headers)
            _check_place(principal, scope["method"], path)
        except FhirError as error:
            await _refuse(error, scope, receive, send, has_token="authorization" in headers)
            return
        scope["principal"] = principal
        await self._app(scope, receive, send)


def _check_place(principal: Principal, method: str, path: str) -> None:
    """Raises `Forbidden`: whoever it is has no business here, whatever they were granted."""
    if path == _METRICS and OPERATOR not in principal.roles:
        raise Forbidden("metrics are for operators")
    intake = principal.intake
    if intake is None:
        return
    mapping = path.removeprefix(_READINGS)
    if method != "POST" or not path.startswith(_READINGS) or "/" in mapping or not mapping:
        raise Forbidden("a gateway hands in readings, and nothing else")
    if intake.mappings and mapping not in intake.mappings:
        raise Forbidden("the gateway's key is not for this mapping")


def _is_at_home(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a program of this machine asks for itself, and not a proxy for somebody."""
    client = scope.get("client")
    if client is None or any(name in headers for name in _FORWARDED):
        return False
    try:
        return ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _refuse(
    error: FhirError, scope: Scope, receive: Receive, send: Send, *, has_token: bool
) -> None:
    extra = {}
    if isinstance(error, Unauthenticated):
        extra["WWW-Authenticate"] = _CHALLENGE + (', error="invalid_token"' if has_token else "")
    media_type = media_type_of(scope)
    response = error_handler.respond(error, media_type, extra)
    if is_xml(media_type):
        types = scope["app"].state.context.element_types
        responses.replace_body(response, responses.to_xml(bytes(response.body), types))
    if scope["method"] == "HEAD":
        response.body = b""
    await response(scope, receive, send)
