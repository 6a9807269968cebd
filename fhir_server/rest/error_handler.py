"""From errors to HTTP status and OperationOutcome: the only place that knows both.

https://hl7.org/fhir/R4/http.html#Status-Codes
"""

import logging
import traceback
from collections.abc import Mapping
from secrets import token_hex

from starlette.requests import Request
from starlette.responses import Response

from fhir_server import errors
from fhir_server.core import etag, resource_json
from fhir_server.core.outcome import operation_outcome
from fhir_server.errors import FhirError, Issue
from fhir_server.rest.negotiation import FHIR_JSON

_log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5

# Looked up along each class's ancestors: a subclass without a line has its parent's status.
STATUS: Mapping[type[FhirError], int] = {
    errors.InvalidRequest: 400,
    errors.TooLarge: 413,
    errors.HeadTooLarge: 431,
    errors.TooSlow: 408,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Unsupported: 405,
    errors.UnsupportedMediaType: 415,
    errors.NotAcceptable: 406,
    errors.VersionConflict: 409,
    errors.PreconditionFailed: 412,
    errors.InvalidResource: 422,
    errors.TooCostly: 422,
    errors.Throttled: 429,
    errors.StoreUnavailable: 503,
    errors.TerminologyUnavailable: 503,
}


def status_of(error: Exception) -> int:
    """The HTTP status that `error` becomes."""
    for ancestor in type(error).__mro__:
        if issubclass(ancestor, FhirError) and ancestor in STATUS:
            return STATUS[ancestor]
    return 500


def outcome_of(error: Exception) -> bytes:
    """The OperationOutcome of `error`; an unexpected one is logged and only its id told."""
    return resource_json.format(operation_outcome(known(error).issues))


def known(error: Exception) -> FhirError:
    """`error` itself if it is ours; else one that tells a log id and no detail."""
    if isinstance(error, FhirError):
        return error
    if isinstance(error, RecursionError):
        return errors.MalformedResource("the body is nested too deeply")
    log_id = token_hex(8)
    # The message of a foreign exception may quote a patient's data, its frames do not.
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("unexpected %s, log id %s\n%s", type(error).__name__, log_id, frames)
    return FhirError(issues=(Issue("exception", f"unexpected; the log knows it as {log_id}"),))


def respond(
    error: Exception, media_type: str = FHIR_JSON, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that ended with `error`."""
    error = known(error)
    status = status_of(error)
    extra = dict(headers or {})
    if isinstance(error, errors.Gone) and error.version_id is not None:
        extra["ETag"] = etag.format(error.version_id)
    if isinstance(error, errors.Forbidden):
        extra["WWW-Authenticate"] = 'Bearer realm="fhir", error="insufficient_scope"'
    if isinstance(error, errors.Throttled):
        extra["Retry-After"] = str(error.retry_after)
    if status == 503:
        extra["Retry-After"] = str(RETRY_AFTER_SECONDS)
    extra["Content-Type"] = f"{media_type}; charset=utf-8"
    return Response(resource_json.format(operation_outcome(error.issues)), status, extra)


async def handle(_request: Request, error: Exception) -> Response:
    """For routes that are not FHIR's own but answer with OperationOutcomes too."""
    return respond(error)


async def handle_unrouted(_request: Request, error: Exception) -> Response:
    """For what the router refuses by itself: no route at a path, or none for the method."""
    headers = dict(getattr(error, "headers", None) or {})
    if getattr(error, "status_code", 404) == 405:
        allowed = headers.get("Allow", "no method")
        return respond(errors.Unsupported(f"{allowed} can be done at this path"), headers=headers)
    return respond(errors.NotFound("there is nothing at this path"), headers=headers)
