"""What every request gets at the edge: an id that it keeps, a count, one line in the log.

`X-Request-Id` is the client's where it is fit to be logged, else made here; it comes back in
the answer, as `X-Correlation-Id` does, and stands on every log line that the request causes.
https://hl7.org/fhir/R4/http.html#custom
"""

import logging
import re
import secrets
from itertools import count
from time import perf_counter, time
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from fhir_server.rest import error_handler, metrics
from fhir_server.rest.draining import Draining
from fhir_server.rest.security_headers import added_to

LOGGER = "fhir_server.request"

_log = logging.getLogger(LOGGER)

_REQUEST_ID = b"x-request-id"
_CORRELATION_ID = b"x-correlation-id"
_CLOSE = (b"connection", b"close")
# What a client sends is written to the log: nothing that could end a line or hide in one.
_FIT = re.compile(rb"[A-Za-z0-9\-._~+/=:]{1,128}\Z")

# Unlike any other process's by its first half, unlike any other of ours by its second.
_prefix = secrets.token_hex(6).encode()
_numbers = count(1)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked for every few seconds by machines: of interest only to who looks for them.
_PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})
_NO_ROUTE = "none"
# No answer was begun: the client went away first.
_UNANSWERED = 499


class RequestLine(msgspec.Struct, frozen=True):
    """What the log says about one request: no URL, no id of a resource, nobody's name."""

    request_id: str
    correlation_id: str | None
    interaction: str
    route: str
    method: str
    status: int
    duration_ms: float


# What `logging` would find out anew for each record, though it is the same for all of ours.
_SAME: dict[str, Any] = vars(logging.LogRecord(LOGGER, logging.INFO, "", 0, "", None, None))


class RequestRecord(logging.LogRecord):
    """A log record of a request, made in a fourth of the time; `msg` is its RequestLine."""

    def __init__(self, level: int, line: RequestLine) -> None:
        now = time()
        self.__dict__ = {
            **_SAME,
            "msg": line,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "created": now,
            "msecs": now % 1 * 1_000,
        }


class RequestIds:
    """Middleware around the whole application.

    While the process is `draining` it ends each connection with its answer, so that clients
    take their next request to another process.
    """

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self._app = app
        self._draining = draining
        self._templates: dict[object, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = perf_counter()
        request_id = correlation_id = b""
        for name, value in scope["headers"]:
            if name == _REQUEST_ID and _FIT.match(value):
                request_id = value
            elif name == _CORRELATION_ID and _FIT.match(value):
                correlation_id = value
        request_id = request_id or b"%b%06x" % (_prefix, next(_numbers))
        told = request_id.decode("ascii")
        bind_contextvars(request_id=told)
        scope["request_id"] = told
        echoed = [(_REQUEST_ID, request_id)]
        if correlation_id:
            bind_contextvars(correlation_id=correlation_id.decode("ascii"))
            echoed.append((_CORRELATION_ID, correlation_id))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = added_to(message.get("headers", ()), scope.get("scheme", "http"))
                headers += echoed
                if self._draining.is_on:
                    headers.append(_CLOSE)
                message["headers"] = headers
            await send(message)

        metrics.in_progress.inc()
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            # Not let through: a foreign exception's message may quote a patient's data, and
            # the server would log it whole. An answer that was begun is cut.
            response = error_handler.respond(error)
            if not status:
                await response(scope, receive, answer)
        finally:
            metrics.in_progress.dec()
            seconds = perf_counter() - begun
            interaction, route = self._name(scope)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            status = status or _UNANSWERED
            metrics.count_request(interaction, method, status, seconds)
            level = logging.DEBUG if interaction in _PROBES else logging.INFO
            if _log.isEnabledFor(level):
                correlated = correlation_id.decode("ascii") if correlation_id else None
                duration = round(seconds * 1_000, 3)
                line = RequestLine(told, correlated, interaction, route, method, status, duration)
                _log.handle(RequestRecord(level, line))

    def _name(self, scope: Scope) -> tuple[str, str]:
        """FHIR's word for what was asked, and the route's template: never what was sent.

        A route that is not FHIR's is named by its template twice.
        """
        route: Any = scope.get("route")
        interaction = getattr(route, "interaction", None)
        if interaction is not None:
            return interaction, f"/fhir{route.path}"
        if self._templates is None:
            # A plain route leaves its endpoint in the scope, but not itself.
            self._templates = {
                getattr(route, "endpoint", None): getattr(route, "path", _NO_ROUTE)
                for route in scope["app"].routes
            }
        path = self._templates.get(scope.get("endpoint"), _NO_ROUTE)
        return path, path
