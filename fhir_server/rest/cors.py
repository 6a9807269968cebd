"""CORS: which web pages may call this server from a browser.

Off unless origins are set. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What a browser would hide from the page, though FHIR clients read it.
_EXPOSED = (
    "Content-Location", "ETag", "Last-Modified", "Location", "Retry-After", "X-Correlation-Id",
    "X-Progress", "X-Request-Id",
)  # fmt: skip
_HEADERS = (
    "Accept", "Authorization", "Content-Encoding", "Content-Type", "If-Match",
    "If-Modified-Since", "If-None-Exist", "If-None-Match", "Prefer", "X-Break-Glass",
    "X-Break-Glass-Reason", "X-Correlation-Id", "X-Requested-With", "X-Request-Id",
)  # fmt: skip
_REMEMBERED_SECONDS = 3_600


def allow(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app` for pages of `origins` too; without any, `app` itself."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=_METHODS,
        allow_headers=_HEADERS,
        expose_headers=_EXPOSED,
        max_age=_REMEMBERED_SECONDS,
    )
