"""The embedded authorization server over HTTP: /auth/authorize, /auth/token and what they need.

https://www.rfc-editor.org/rfc/rfc6749 https://hl7.org/fhir/smart-app-launch/
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from fhir_server.core import query_string
from fhir_server.core.security.registration import Client
from fhir_server.core.security.smart_configuration import openid_configuration, own_endpoints
from fhir_server.errors import FhirError, InvalidSearch, StoreUnavailable
from fhir_server.rest import error_handler, sign_in_page
from fhir_server.rest.base_url import BaseUrls
from fhir_server.rest.body import ClientDisconnectedError, read_body
from fhir_server.rest.request import decode_headers
from fhir_server.security.authorization import Asked, Refused
from fhir_server.security.embedded import Embedded
from fhir_server.security.oauth_error import OAuthError
from fhir_server.security.passwords import TooManyTries

_MOST_BYTES = 64 * 1024
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Endpoint = Callable[[Request], Awaitable[Response]]


def authorization_routes(embedded: Embedded, base_urls: BaseUrls) -> list[BaseRoute]:
    server = _Server(embedded, base_urls)
    return [
        Route("/auth/authorize", _answering(server.show), methods=["GET"]),
        Route("/auth/authorize", _answering(server.decide), methods=["POST"]),
        Route("/auth/token", _answering(server.token), methods=["POST"]),
        Route("/auth/revoke", _answering(server.revoke), methods=["POST"]),
        Route("/auth/keys", _answering(server.keys), methods=["GET"]),
        Route(
            "/.well-known/openid-configuration", _answering(server.configuration), methods=["GET"]
        ),
    ]


class _Server:
    def __init__(self, embedded: Embedded, base_urls: BaseUrls) -> None:
        self._embedded = embedded
        self._base_urls = base_urls

    async def show(self, request: Request) -> Response:
        """The page on which a person signs in and agrees."""
        params = _pairs(request.scope["query_string"].decode("latin-1"))
        try:
            asked = await self._asked(params, request)
        except OAuthError as error:
            return sign_in_page.fault(str(error))
        except Refused as refused:
            return RedirectResponse(refused.url, 303, _NO_STORE)
        return sign_in_page.page(asked, params)

    async def decide(self, request: Request) -> Response:
        """What the person said on it."""
        form = await _form(request)
        params = {n: v for n, v in form.items() if n not in sign_in_page.FIELDS}
        try:
            asked = await self._asked(params, request)
            if form.get("decision") != "allow":
                return RedirectResponse(
                    self._embedded.authorization.declined(asked), 303, _NO_STORE
                )
            return await self._signed_in(asked, params, form)
        except OAuthError as error:
            return sign_in_page.fault(str(error))
        except Refused as refused:
            return RedirectResponse(refused.url, 303, _NO_STORE)

    async def token(self, request: Request) -> Response:
        form = await _form(request)
        client, base_url = await self._client(request, form)
        given = await asyncio.to_thread(self._embedded.grants.give, client, form, base_url)
        return _json(given)

    async def revoke(self, request: Request) -> Response:
        form = await _form(request)
        client, _ = await self._client(request, form)
        await asyncio.to_thread(self._embedded.grants.revoke, client, form.get("token", ""))
        return Response(None, 200, _NO_STORE)

    async def keys(self, _request: Request) -> Response:
        return _json(await asyncio.to_thread(self._embedded.keys.public))

    async def configuration(self, request: Request) -> Response:
        return _json(openid_configuration(own_endpoints(self._base_url(request))))

    async def _asked(self, params: dict[str, str], request: Request) -> Asked:
        base_url = self._base_url(request)
        return await asyncio.to_thread(self._embedded.authorization.asked, params, base_url)

    async def _signed_in(
        self, asked: Asked, params: dict[str, str], form: dict[str, str]
    ) -> Response:
        name, password = form.get("username", "").strip(), form.get("password", "")
        try:
            account = await asyncio.to_thread(self._embedded.sign_in.check, name, password)
        except TooManyTries:
            said = "Too many tries. Wait a quarter of an hour, or ask who looks after the server."
            return sign_in_page.page(asked, params, said, status=429)
        if account is None:
            said = "The name and the password do not belong together."
            return sign_in_page.page(asked, params, said, status=403)
        authorization = self._embedded.authorization
        try:
            url = await asyncio.to_thread(
                authorization.agreed, asked, account, form.get("patient", "")
            )
        except OAuthError as error:
            return sign_in_page.page(asked, params, str(error), status=400)
        return RedirectResponse(url, 303, _NO_STORE)

    async def _client(self, request: Request, form: dict[str, str]) -> tuple[Client, str]:
        base_url = self._base_url(request)
        authorization = request.headers.get("authorization", "")
        url = own_endpoints(base_url).token
        return await self._embedded.proof.client(form, authorization, url), base_url

    def _base_url(self, request: Request) -> str:
        """The base of FHIR.

        Raises:
            OAuthError: it is not sure. An assertion made for another server could be used here
                by one who says that we are that server.
        """
        base_url = self._base_urls.find(request.scope, decode_headers(request.scope))
        if not self._base_urls.is_configured and urlsplit(base_url).hostname not in _LOOPBACK:
            raise OAuthError("server_error", "FHIR_SERVER_BASE_URL has to be set", 500)
        return base_url


def _answering(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnectedError:
            return Response(None, 400)
        except OAuthError as error:
            extra = {"WWW-Authenticate": 'Basic realm="fhir"'} if error.status == 401 else {}
            said = {"error": error.code, "error_description": str(error)}
            return _json(said, error.status, extra)
        except StoreUnavailable:
            retry = {"Retry-After": str(error_handler.RETRY_AFTER_SECONDS)}
            return _json({"error": "temporarily_unavailable"}, 503, retry)
        except FhirError as error:
            status = error_handler.status_of(error)
            return _json({"error": "invalid_request", "error_description": str(error)}, status)

    return answer


async def _form(request: Request) -> dict[str, str]:
    """Raises `OAuthError`: it is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "expected application/x-www-form-urlencoded")
    body = await read_body(request.receive, decode_headers(request.scope), _MOST_BYTES)
    return _pairs(body.decode("latin-1"))


def _pairs(text: str) -> dict[str, str]:
    """Raises `OAuthError`: a parameter is there twice, or it is no form."""
    try:
        pairs = query_string.parse(text)
    except InvalidSearch as error:
        raise OAuthError("invalid_request", str(error)) from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise OAuthError("invalid_request", "a parameter is there twice")
    return found


def _json(content: object, status: int = 200, extra: dict[str, str] | None = None) -> Response:
    headers = {**_NO_STORE, **(extra or {})}
    return Response(msgspec.json.encode(content), status, headers, "application/json")
