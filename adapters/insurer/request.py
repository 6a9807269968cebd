"""Data requests as Tasks: what is asked for, and the Task that answers.

https://hl7.org/fhir/us/davinci-cdex/task-based-approach.html: an insurer creates a Task with
a query or a code; it comes back completed with a reference to the data, or rejected with the
reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from adapters.insurer.aggregate import MEASURE
from adapters.insurer.policy import Party
from fhir_server.core import reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource

HREX = "http://hl7.org/fhir/us/davinci-hrex/CodeSystem/hrex-temp"
QUERY, CODE = "data-request-query", "data-request-code"

ONLY_AGGREGATES = "the consent permits aggregates only: ask for them by their code"
TOO_MANY = "it would be too much at once: ask about a shorter time"
NOT_ONE_PATIENT = "Task.for is no patient of this server"
NOT_UNDERSTOOD = "Task.input is no request that this server answers"

# By which parameter a type is searched for a patient's own.
_PATIENT_PARAMETER = {
    "CarePlan": "subject",
    "DetectedIssue": "patient",
    "DeviceUseStatement": "subject",
    "Goal": "subject",
    "Observation": "subject",
}
# These would bring resources that nobody asked the consent about, or say nothing here.
_FORBIDDEN = ("_include", "_revinclude", "_has", "_filter", "_total", "_sort", "_count", "_format")
_OF_PATIENT = ("patient", "subject")


class RefusedRequest(Exception):
    """A request that is answered with a rejected Task; the text is for its statusReason."""


class Request(NamedTuple):
    """A search of one type, or with `is_aggregate` a report; always of one patient."""

    patient: ResourceKey
    resource_type: str
    params: tuple[tuple[str, str], ...]
    is_aggregate: bool = False


def is_request(task: Resource, party: Party) -> bool:
    """Whether a Task asks this server for data in the insurer's name."""
    codes = {coding.get("code") for coding in (task.get("code") or {}).get("coding") or ()}
    return (
        task["resourceType"] == "Task"
        and task.get("status") == "requested"
        and bool(codes & {QUERY, CODE})
        and party.is_named(task.get("requester") or {})
    )


def read_request(task: Resource) -> Request:
    """What is asked for.

    Raises:
        RefusedRequest: this server does not answer such a thing.
    """
    found = reference.parse(str((task.get("for") or {}).get("reference", "")))
    if found is None or not found.is_local or found.resource_type != "Patient":
        raise RefusedRequest(NOT_ONE_PATIENT)
    patient = ResourceKey("Patient", found.resource_id)
    restriction = _restriction(task)
    for item in task.get("input") or ():
        if isinstance(item.get("valueString"), str) and _is_of(item, "data-query"):
            return _read_query(item["valueString"], patient, restriction)
        if isinstance(item.get("valueCodeableConcept"), dict) and _is_of(item, "data-code"):
            return _read_code(item["valueCodeableConcept"], patient, restriction)
    raise RefusedRequest(NOT_UNDERSTOOD)


def completed(task: Resource, bundle: Resource) -> Resource:
    """The Task as answered with a Bundle."""
    output = {
        "type": {"coding": [{"system": HREX, "code": "data-value"}]},
        "valueReference": {"reference": f"Bundle/{bundle['id']}"},
    }
    return {**task, "status": "completed", "output": [output]}


def rejected(task: Resource, reason: str) -> Resource:
    """The Task as refused."""
    return {**task, "status": "rejected", "statusReason": {"text": reason}}


def answer_bundle(task: Resource, resources: Sequence[Resource], base_url: str) -> Resource:
    """What was found, under an id that follows from the Task's."""
    entries = [
        {
            **_full_url(resource, base_url),
            "resource": resource,
            "search": {"mode": "match"},
        }
        for resource in resources
    ]
    return {
        "resourceType": "Bundle",
        "id": f"answer-{task['id']}"[:64],
        "type": "searchset",
        "total": len(entries),
        **({"entry": entries} if entries else {}),
    }


def _read_query(text: str, patient: ResourceKey, restriction: Iterable[tuple[str, str]]) -> Request:
    resource_type, _, query = text.strip().lstrip("/").partition("?")
    if resource_type not in _PATIENT_PARAMETER:
        raise RefusedRequest(NOT_UNDERSTOOD)
    params: list[tuple[str, str]] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        base = name.partition(":")[0]
        if "." in name or base in _FORBIDDEN or base.startswith("_has"):
            raise RefusedRequest(NOT_UNDERSTOOD)
        if base in _OF_PATIENT:
            if name != base or value not in (str(patient), patient.resource_id):
                raise RefusedRequest(NOT_ONE_PATIENT)
            continue
        params.append((name, value))
    own = (_PATIENT_PARAMETER[resource_type], str(patient))
    return Request(patient, resource_type, (own, *params, *restriction))


def _read_code(
    concept: Mapping[str, Any], patient: ResourceKey, restriction: Sequence[tuple[str, str]]
) -> Request:
    codings = [c for c in concept.get("coding") or () if c.get("code")]
    if any(coding["code"] == "home-monitoring" for coding in codings) or any(
        coding.get("system") == MEASURE for coding in codings
    ):
        return Request(patient, "MeasureReport", tuple(restriction), is_aggregate=True)
    tokens = ",".join(f"{_escaped(c.get('system', ''))}|{_escaped(c['code'])}" for c in codings)
    if not tokens:
        raise RefusedRequest(NOT_UNDERSTOOD)
    params = (("subject", str(patient)), ("combo-code", tokens), *restriction)
    return Request(patient, "Observation", params)


def _restriction(task: Resource) -> tuple[tuple[str, str], ...]:
    period = (task.get("restriction") or {}).get("period") or {}
    named = (("start", "ge"), ("end", "le"))
    return tuple(("date", f"{prefix}{period[name]}") for name, prefix in named if name in period)


def _is_of(item: Mapping[str, Any], code: str) -> bool:
    codings = (item.get("type") or {}).get("coding") or ()
    return any(coding.get("code") in (code, code.removeprefix("data-")) for coding in codings)


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in "\\,|$" else each for each in str(text))


def _full_url(resource: Resource, base_url: str) -> dict[str, str]:
    if not base_url or "id" not in resource:
        return {}
    return {"fullUrl": f"{base_url}/{resource['resourceType']}/{resource['id']}"}
