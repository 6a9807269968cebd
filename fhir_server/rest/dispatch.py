"""FhirDispatch: one Starlette route for all of FHIR, found by the shape of its path.

A table of patterns would be tried one after the other; here the segments of a path, with
those that name a type, an id or a version blanked, are looked up at once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.datastructures import URLPath
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from fhir_server.errors import NotAcceptable, NotFound, TooCostly, Unsupported
from fhir_server.interactions.context import Context
from fhir_server.rest import error_handler, responses
from fhir_server.rest.authorizing import authorized
from fhir_server.rest.base_url import BaseUrls
from fhir_server.rest.body import ClientDisconnectedError
from fhir_server.rest.negotiation import FHIR_JSON, choose_media_type, is_xml
from fhir_server.rest.request import FhirRequest, decode_headers

Endpoint = Callable[[FhirRequest], Awaitable[Response]]

_VARIABLE = ""
_MAX_CONTEXTS = 64


class FhirRoute(NamedTuple):
    """`path` below the base, such as ``/{type}/{id}``; `interaction` is FHIR's word for it."""

    method: str
    path: str
    endpoint: Endpoint
    interaction: str


class FhirDispatch(BaseRoute):
    """Everything below `prefix`."""

    def __init__(self, prefix: str, table: Sequence[FhirRoute]) -> None:
        self.prefix = prefix
        self.path_format = prefix + "/{path}"
        self.table = tuple(table)
        self._by_shape: dict[tuple[str, ...], dict[str, FhirRoute]] = {}
        for route in table:
            # A type that stands for itself is a variable too: one endpoint serves all that
            # have an operation of that name.
            shape = _shape(_split(route.path))
            self._by_shape.setdefault(shape, {})[route.method] = route
        self._base_urls: BaseUrls | None = None
        self._contexts: dict[str, Context] = {}
        self._made_of: Context | None = None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Full for every path at or below the prefix: what is not there is told in FHIR."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = route_path(scope)
        prefix = self.prefix
        if path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/"):
            return Match.FULL, {}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(scope, receive)
        except ClientDisconnectedError:
            return
        if scope["method"] == "HEAD":
            # Content-Length stays: HEAD tells what GET would have sent.
            response.body = b""
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        request: FhirRequest | None = None
        extra: Mapping[str, str] = {}
        try:
            segments = _split(route_path(scope)[len(self.prefix) :])
            methods = self._by_shape.get(_shape(segments))
            if methods is None:
                raise NotFound("there is nothing at this path")
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            route = methods.get(method)
            if route is None:
                extra = {"Allow": ", ".join(_allowed(methods))}
                raise Unsupported(f"{extra['Allow']} can be done at this path")
            scope["route"] = route
            headers = decode_headers(scope)
            ctx = self._context(scope, headers)
            ctx = await authorized(scope["app"].state, ctx, scope, headers)
            path = tuple([segment for segment in segments if segment[0] not in "_$"])
            request = FhirRequest(ctx, scope, receive, headers, path)
            response = await route.endpoint(request)
            # What was written stays written, however much there is to be told of it.
            if len(response.body) > ctx.limits.answer_bytes and (
                method == "GET" or segments[-1:] == ("_search",)
            ):
                raise TooCostly("the answer is too large: ask with a smaller _count")
            if (
                request.is_pretty
                or len(response.body) >= responses.GZIP_FROM_BYTES
                or is_xml(request.media_type)
            ):
                response = await responses.finish(request, response)
        except ClientDisconnectedError:
            raise
        except Exception as error:
            media_type = media_type_of(scope) if request is None else request.media_type
            response = error_handler.respond(error, media_type, extra)
            if is_xml(media_type):
                types = scope["app"].state.context.element_types
                responses.replace_body(response, responses.to_xml(bytes(response.body), types))
        return response

    def _context(self, scope: Scope, headers: Mapping[str, str]) -> Context:
        state = scope["app"].state
        if self._base_urls is None:
            settings = getattr(state, "settings", None)
            proxies = getattr(settings, "trusted_proxies", ())
            self._base_urls = BaseUrls(state.context.base_url, proxies, self.prefix)
        base_url = self._base_urls.find(scope, headers)
        if self._made_of is not state.context:
            # Search parameters were added: what was made of the one before is of no use.
            self._made_of = state.context
            self._contexts.clear()
        ctx = self._contexts.get(base_url)
        if ctx is None:
            # The client names the host: what is kept of it is bounded.
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            ctx = self._contexts[base_url] = state.context.at(base_url)
        return ctx


def media_type_of(scope: Scope) -> str:
    """The format of the answer to a request that could not even be understood."""
    try:
        return choose_media_type(decode_headers(scope).get("accept"), None)
    except NotAcceptable:
        return FHIR_JSON


def route_path(scope: Scope) -> str:
    """The path below the point that a proxy or a mount has put the application at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _split(path: str) -> tuple[str, ...]:
    """The segments of a path; a slash at its end says nothing."""
    if path in ("", "/"):
        return ()
    segments = tuple(path.strip("/").split("/"))
    if not all(segments):
        raise NotFound("there is nothing at this path")
    return segments


def _shape(segments: tuple[str, ...]) -> tuple[str, ...]:
    if segments == ("metadata",) or segments[:1] == (".well-known",):
        return segments
    return tuple([s if s[0] in "_$" else _VARIABLE for s in segments])


def _allowed(methods: Mapping[str, FhirRoute]) -> list[str]:
    allowed = sorted(methods)
    return ["HEAD", *allowed] if "GET" in methods else allowed
