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
        is_refused = False

        async def answer(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start":
                status = message["status"]
                try:
                    entry = request.of_answer(status)
                    if entry is not None:
                        await journal.write(entry)
                except Exception as error:
                    _log.warning("an access could not be recorded: %s", type(error).__name__)
                    # What failed already gives nothing away.
                    if status < 500:
                        is_refused = True
                        refusal = error_handler.known(error)
                        await error_handler.respond(refusal)(scope, receive, send)
            if not is_refused:
                await send(message)

        await self._app(scope, receive, answer)

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
