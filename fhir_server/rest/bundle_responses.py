"""The answer to a batch or transaction: each entry with the status it would have had alone.

https://hl7.org/fhir/R4/http.html#transaction-response
"""

from collections.abc import Sequence
from http import HTTPStatus

from fhir_server.core import bundle, resource_json
from fhir_server.core.bundle import ResponseEntry
from fhir_server.core.bundle_request import BundleType
from fhir_server.core.outcome import ALL_OK, operation_outcome
from fhir_server.interactions.entry_result import Answer, EntryResult, Failed, Found, Unchanged
from fhir_server.interactions.written import Written
from fhir_server.rest.error_handler import known, status_of
from fhir_server.rest.preferences import Returns
from fhir_server.rest.responses import STATUS_OF_EFFECT, location


def render(
    kind: BundleType, base_url: str, results: Sequence[EntryResult], returns: Returns | None
) -> bytes:
    """The response Bundle. Writes show what they stored only where the client prefers it."""
    entries = [_entry(base_url, result, returns) for result in results]
    return bundle.responses(
        "batch-response" if kind == "batch" else "transaction-response", base_url, entries
    )


def _entry(base_url: str, result: EntryResult, returns: Returns | None) -> ResponseEntry:
    match result:
        case Written():
            return _written(base_url, result, returns)
        case Found(version):
            return ResponseEntry(
                _status(200), key=version.key, version=version, resource=version.body
            )
        case Unchanged(version):
            return ResponseEntry(_status(304), key=version.key, version=version)
        case Answer(body):
            return ResponseEntry(_status(200), resource=body)
        case Failed(error):
            return _failed(error)


def _written(base_url: str, written: Written, returns: Returns | None) -> ResponseEntry:
    effect, version = written
    status = _status(STATUS_OF_EFFECT[effect])
    outcome = None
    if returns == "OperationOutcome":
        outcome = resource_json.format(operation_outcome(ALL_OK))
    if version is None:
        return ResponseEntry(status, outcome=outcome)
    if version.is_deletion:
        return ResponseEntry(status, version=version, outcome=outcome)
    return ResponseEntry(
        status,
        key=version.key,
        version=version,
        location=location(base_url, version),
        resource=version.body if returns == "representation" else None,
        outcome=outcome,
    )


def _failed(error: Exception) -> ResponseEntry:
    error = known(error)
    outcome = resource_json.format(operation_outcome(error.issues))
    return ResponseEntry(_status(status_of(error)), outcome=outcome)


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"
