"""The exception tree: what can go wrong, in the words of FHIR.

Each class carries its issue code (https://hl7.org/fhir/R4/valueset-issue-type.html).
Only `rest/error_handler.py` knows which HTTP status a class becomes. Messages and
diagnostics name keys and paths, never a value of a patient.
"""

from collections.abc import Collection, Sequence
from typing import ClassVar, Literal, NamedTuple

Severity = Literal["fatal", "error", "warning", "information"]


class Issue(NamedTuple):
    """One fault: what, how bad, and the element it sits in.

    `expression` is a FHIRPath such as ``Observation.component[0].code``. `source` is the rule
    of a profile that was broken: its canonical URL, ``#`` and the rule.
    """

    code: str
    diagnostics: str
    expression: str | None = None
    severity: Severity = "error"
    source: str | None = None


class FhirError(Exception):
    """Anything that ends a request with an OperationOutcome."""

    code: ClassVar[str] = "exception"

    def __init__(self, diagnostics: str = "", *, issues: Sequence[Issue] = ()) -> None:
        self.issues: tuple[Issue, ...] = tuple(issues) or (Issue(self.code, diagnostics),)
        super().__init__(diagnostics or self.issues[0].diagnostics)


class InvalidRequest(FhirError):
    """The request itself cannot be understood."""

    code = "invalid"


class MalformedResource(InvalidRequest):
    """The body is no FHIR JSON: broken syntax, wrong encoding, no `resourceType`."""

    code = "structure"


class InvalidSearch(InvalidRequest):
    """A search parameter, modifier or value that cannot be applied."""


class TooLarge(InvalidRequest):
    """A body, or a part of one, over its limit."""

    code = "too-long"


class HeadTooLarge(TooLarge):
    """More URL or headers than a request has."""


class TooSlow(InvalidRequest):
    """The request was begun, and does not arrive."""

    code = "timeout"


class Unauthenticated(FhirError):
    """Nobody is known to be asking."""

    code = "login"


class Forbidden(FhirError):
    """Somebody is asking who may not."""

    code = "forbidden"


class NotFound(FhirError):
    """No such resource, version, type or path."""

    code = "not-found"


class Gone(FhirError):
    """The resource was deleted; `version_id` is the version that says so."""

    code = "deleted"

    def __init__(self, diagnostics: str, version_id: int | None = None) -> None:
        super().__init__(diagnostics)
        self.version_id = version_id


class Unsupported(FhirError):
    """Known to FHIR, but this server does not do it."""

    code = "not-supported"


class UnsupportedMediaType(Unsupported):
    """The body is in a format this server does not read."""


class NotAcceptable(Unsupported):
    """The client accepts no format this server writes."""


class VersionConflict(FhirError):
    """The change collides with one that came first."""

    code = "conflict"


class PreconditionFailed(FhirError):
    """`If-Match`, `If-None-Exist` or a conditional criterion does not hold."""

    code = "conflict"


class MultipleMatches(PreconditionFailed):
    """A condition that must name one resource names several."""

    code = "multiple-matches"


class InvalidResource(FhirError):
    """The body is FHIR JSON and breaks the rules of its type or profile."""

    code = "invariant"


class TooCostly(FhirError):
    """The answer would take more than one request may."""

    code = "too-costly"


class Throttled(FhirError):
    """More than was agreed came from this client; after `retry_after` seconds it may go on."""

    code = "throttled"

    def __init__(self, diagnostics: str, retry_after: int = 60) -> None:
        super().__init__(diagnostics)
        self.retry_after = retry_after


class StoreUnavailable(FhirError):
    """The store is away or busy; nothing was half done. Worth a retry."""

    code = "transient"


class TerminologyUnavailable(FhirError):
    """The other terminology server, which would know, does not answer. Worth a retry."""

    code = "transient"


class DeliveryDeferred(Exception):
    """A sink could not deliver now; try again later.

    Only the outbox worker catches it. `retry_after` is in seconds, where the
    receiver said so.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class DeliveryPending(DeliveryDeferred):
    """The receiver is at work on it: ask again after `retry_after`.

    Not a failure of the receiver, so its other deliveries go on meanwhile.
    """


class DeliveryWithheld(Exception):
    """Policy forbids that these go there; only the worker catches it.

    `sequences` are those of the versions that it is about, None for all: the others are
    given to the sink again.
    """

    def __init__(self, reason: str, sequences: Collection[int] | None = None) -> None:
        super().__init__(reason)
        self.sequences = sequences


class DeliveryRejected(Exception):
    """The receiver will never take this; a person has to look. Only the worker catches it."""
