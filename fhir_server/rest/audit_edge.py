"""AuditEdge: no answer leaves before the record of its request is durable (ADR 0030).

It stands around all routes, so that refusals, and requests that find no route, are recorded
like any other. What tells nothing of anybody (health, metrics, what the server can do) is
not recorded. `scope["principal"]` is who asks, from when that is known.
"""

import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir_server.core.security.principal import ANONYMOUS
from fhir_server.interactions import access
from fhir_server.interactions.access import Access
from fhir_server.operations.audit_journal import AuditJournal
from fhir_server.rest import error_handler
from fhir_server.rest.base_url import BaseUrls

_log = logging.getLogger(__name__)

_UNRECORDED = ("/health/", "/metrics", "/docs", "/openapi.json", "/.well-known/", "/auth/keys")
_CAPABILITIES = ("/fhir/metadata", "/fhir/.well-known/smart-configuration")
_FORWARDED_FOR = b"x-forwarded-for"
_BREAK_GLASS_REASON = b"x-break-glass-reason"


class AuditEdge:
    """Middleware; without a journal in the application's state nothing is recorded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._base_urls: BaseUrls | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        access.begin_asking(lambda: scope.get("principal", ANONYMOUS))
        journal: AuditJournal | None = getattr(scope["app"].state, "audit_journal", None)
        if journal is None or not _is_recorded(scope):
            await self._app(scope, receive, send)
            return
        request = self._begin(scope)
        access.begin(request)
        answer = _Answer(journal, request, scope, receive, send)
        try:
            await self._app(scope, receive, answer.take)
        except Exception:
            await answer.give()
            raise
        await answer.give()

    def _begin(self, scope: Scope) -> Access:
        if self._base_urls is None:
            proxies = getattr(scope["app"].state.settings, "trusted_proxies", ())
            self._base_urls = BaseUrls("", proxies)
        forwarded_for = reason = ""
        for name, value in scope["headers"]:
            if name == _FORWARDED_FOR:
                forwarded_for = value.decode("latin-1")
            elif name == _BREAK_GLASS_REASON:
                reason = value.decode("latin-1").strip()
        return Access(
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            find_interaction=lambda: _interaction(scope),
            address=self._base_urls.client_address(scope, forwarded_for),
            reason=reason,
            request_id=scope.get("request_id", ""),
        )


class _Answer:
    """The answer to a request, held until its record is durable.

    By then the request is done but for this: what it worked with is free, and so is its place.
    """

    __slots__ = ("_held", "_is_refused", "_journal", "_receive", "_request", "_scope", "_send")

    def __init__(
        self, journal: AuditJournal, request: Access, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._journal = journal
        self._request = request
        self._scope = scope
        self._receive = receive
        self._send = send
        self._held: list[Message] | None = []
        self._is_refused = False

    async def take(self, message: Message) -> None:
        if self._held is None:
            if not self._is_refused:
                await self._send(message)
            return
        self._held.append(message)
        if message.get("more_body", False):
            # It comes in pieces: what is held does not grow with it.
            await self.give()

    async def give(self) -> None:
        """Send what is held, or that it cannot be told."""
        held, self._held = self._held, None
        if not held:
            return
        status = held[0]["status"]
        try:
            entry = self._request.of_answer(status)
            if entry is not None:
                await self._journal.write(entry)
        except Exception as error:
            _log.warning("an access could not be recorded: %s", type(error).__name__)
            # What failed already gives nothing away.
            if status < 500:
                self._is_refused = True
                refusal = error_handler.respond(error_handler.known(error))
                await refusal(self._scope, self._receive, self._send)
                return
        for message in held:
            await self._send(message)


def _is_recorded(scope: Scope) -> bool:
    path: str = scope["path"]
    return (
        scope["method"] != "OPTIONS"
        and not path.startswith(_UNRECORDED)
        # Whole paths: a patient may have the id "metadata".
        and path not in _CAPABILITIES
    )


def _interaction(scope: Scope) -> str:
    """FHIR's word for what was asked, an operation's name, or the first part of the path."""
    route: Any = scope.get("route")
    found: str | None = getattr(route, "interaction", None)
    if found is None:
        first = scope["path"].strip("/").partition("/")[0]
        return first if first in ("readings", "enrolments", "console", "auth") else "request"
    last = route.path.rpartition("/")[2]
    return last if last.startswith("$") else found
