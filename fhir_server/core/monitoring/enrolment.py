"""Enrolment: a prescription of a device kit becomes Patient, Devices, CarePlan and Goals.

https://hl7.org/fhir/R4/careplan.html

Every resource made here carries an identifier that follows from the order's number, so
an order that is sent again finds what it made. What a physician changes afterwards, he
changes on the resources.
"""

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.prescription import (
    Activity,
    Coding,
    Limits,
    Person,
    PrescribedDevice,
    Prescription,
    Timing,
)
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring import claimed
from fhir_server.core.monitoring.assignment import AUXILIARY
from fhir_server.core.monitoring.claimed import claiming, claims_of_goal
from fhir_server.core.resource_json import Resource

ENROLMENT_SYSTEM = "https://pmp.example/fhir/NamingSystem/enrolment"
CONTENT_SYSTEM = "https://pmp.example/fhir/NamingSystem/enrolment-content"
PLAN_SYSTEM = "https://pmp.example/fhir/CodeSystem/care-plan"

_UCUM = "http://unitsofmeasure.org"


def enrolment_identifier(prescription: Prescription, part: str) -> tuple[str, str]:
    """The identifier of what an order makes; `part` says which of it ("plan", "goal.…")."""
    digest = hashlib.sha256()
    for text in prescription.identifier:
        encoded = b"-" if text is None else b"=" + text.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return ENROLMENT_SYSTEM, f"{digest.hexdigest()}.{part}"


def content_digest(prescription: Prescription) -> str:
    """Equal for orders that ask for the same, whatever the spelling of their numbers."""
    return hashlib.sha256(resource_json.format_sorted(_normal(prescription))).hexdigest()


def content_of(care_plan: Resource) -> str | None:
    """The content digest of the order that made a CarePlan."""
    for identifier in care_plan.get("identifier", ()):
        if identifier.get("system") == CONTENT_SYSTEM:
            return str(identifier.get("value"))
    return None


def patient(person: Person) -> Resource:
    resource: Resource = {
        "resourceType": "Patient",
        "meta": claiming(claimed.PATIENT),
        "identifier": _identifiers(person.identifiers),
    }
    if name := _name(person):
        resource["name"] = [name]
    if person.phone:
        resource["telecom"] = [{"system": "phone", "value": person.phone}]
    if person.gender:
        resource["gender"] = person.gender
    if person.birth_date:
        resource["birthDate"] = person.birth_date
    return resource


def device(prescribed: PrescribedDevice) -> Resource:
    resource: Resource = {"resourceType": "Device", "meta": claiming(claimed.DEVICE)}
    if prescribed.is_auxiliary:
        system, code = AUXILIARY
        resource["meta"]["tag"] = [{"system": system, "code": code}]
    resource["identifier"] = _identifiers(prescribed.identifiers)
    resource["status"] = "active"
    if prescribed.manufacturer:
        resource["manufacturer"] = prescribed.manufacturer
    if prescribed.name:
        resource["deviceName"] = [{"name": prescribed.name, "type": "user-friendly-name"}]
    if prescribed.model:
        resource["modelNumber"] = prescribed.model
    if prescribed.types:
        resource["type"] = _concept(prescribed.types)
    return resource


def device_use_statement(
    prescription: Prescription, index: int, holder: ResourceKey, of: ResourceKey
) -> Resource:
    """The assignment of the device at `index` for as long as the order runs."""
    return {
        "resourceType": "DeviceUseStatement",
        "meta": claiming(claimed.ASSIGNMENT),
        "identifier": [_own(enrolment_identifier(prescription, f"device.{index}"))],
        "status": "active",
        "subject": _reference(holder),
        "timingPeriod": _period(prescription),
        "device": _reference(of),
    }


def goal(prescription: Prescription, index: int, subject: ResourceKey) -> Resource:
    """The physician's limits at `index`: one thing that is measured."""
    limits = prescription.limits[index]
    resource: Resource = {
        "resourceType": "Goal",
        "identifier": [_own(enrolment_identifier(prescription, f"goal.{index}"))],
        "lifecycleStatus": "active",
        "description": {"text": _describe(limits)},
        "subject": _reference(subject),
        "target": [{"measure": _concept(limits.codes), **_detail(limits)}],
    }
    # Goal.startDate is a date; the order may start at a time of day.
    resource["startDate"] = prescription.start.partition("T")[0]
    if prescription.physician is not None:
        resource["expressedBy"] = _logical("Practitioner", prescription.physician)
    return {**resource, **claims_of_goal(resource)}


def care_plan(
    prescription: Prescription, subject: ResourceKey, goals: Sequence[ResourceKey]
) -> Resource:
    """The plan; `goals` are in the order of the prescription's limits."""
    resource: Resource = {
        "resourceType": "CarePlan",
        "meta": claiming(claimed.PLAN),
        "identifier": [
            _own(enrolment_identifier(prescription, "plan")),
            *_identifiers((prescription.identifier,)),
            {"system": CONTENT_SYSTEM, "value": content_digest(prescription)},
        ],
        "status": "active",
        "intent": "order",
        "category": [{"coding": [{"system": PLAN_SYSTEM, "code": prescription.plan}]}],
        "title": prescription.title or prescription.plan,
        "subject": _reference(subject),
        "period": _period(prescription),
    }
    if prescription.physician is not None:
        resource["author"] = _logical("Practitioner", prescription.physician)
    if goals:
        resource["goal"] = [_reference(key) for key in goals]
    if prescription.activities:
        of_kind: dict[str, list[ResourceKey]] = {}
        for limits, key in zip(prescription.limits, goals, strict=True):
            of_kind.setdefault(limits.name.partition(".")[0], []).append(key)
        resource["activity"] = [
            {"detail": _activity(activity, of_kind.get(activity.kind, ()))}
            for activity in prescription.activities
        ]
    if prescription.note:
        resource["note"] = [{"text": prescription.note}]
    return resource


def _activity(activity: Activity, goals: Iterable[ResourceKey]) -> Resource:
    code = _concept(activity.codes)
    if activity.text:
        code["text"] = activity.text
    detail: Resource = {"code": code}
    if references := [_reference(key) for key in goals]:
        detail["goal"] = references
    detail["status"] = "scheduled"
    if activity.timing is not None:
        detail["scheduledTiming"] = {"repeat": _repeat(activity.timing)}
    return detail


def _repeat(timing: Timing) -> Resource:
    repeat: Resource = {
        "frequency": timing.frequency,
        "period": timing.period,
        "periodUnit": timing.period_unit,
    }
    if timing.days_of_week:
        repeat["dayOfWeek"] = list(timing.days_of_week)
    if timing.times_of_day:
        repeat["timeOfDay"] = list(timing.times_of_day)
    if timing.when:
        repeat["when"] = list(timing.when)
    return repeat


def _detail(limits: Limits) -> Resource:
    """Both limits are a Range; one alone is a Quantity that says on which side it is."""
    if limits.low is not None and limits.high is not None:
        low, high = _quantity(limits.low, limits.unit), _quantity(limits.high, limits.unit)
        return {"detailRange": {"low": low, "high": high}}
    if limits.low is not None:
        return {"detailQuantity": {**_quantity(limits.low, limits.unit), "comparator": ">="}}
    if limits.high is not None:
        return {"detailQuantity": {**_quantity(limits.high, limits.unit), "comparator": "<="}}
    return {}


def _describe(limits: Limits) -> str:
    low = "" if limits.low is None else f" from {limits.low}"
    high = "" if limits.high is None else f" to {limits.high}"
    return f"{limits.name}{low}{high} {limits.unit}".strip()


def _quantity(value: Decimal, unit: str) -> Resource:
    quantity: Resource = {"value": value}
    return {**quantity, "unit": unit, "system": _UCUM, "code": unit} if unit else quantity


def _period(prescription: Prescription) -> Resource:
    period = {"start": prescription.start}
    return {**period, "end": prescription.end} if prescription.end else period


def _name(person: Person) -> Resource:
    name: Resource = {}
    if person.family:
        name["family"] = person.family
    if person.given:
        name["given"] = list(person.given)
    return name


def _logical(resource_type: str, person: Person) -> Resource:
    """A reference by identifier: the register of physicians is not kept here."""
    reference: Resource = {"type": resource_type, "identifier": _identifiers(person.identifiers)[0]}
    if display := " ".join((*person.given, person.family)).strip():
        reference["display"] = display
    return reference


def _identifiers(tokens: Iterable[IdentifierToken]) -> list[Resource]:
    return [
        {"value": token.value}
        if token.system is None
        else {"system": token.system, "value": token.value}
        for token in tokens
    ]


def _own(identifier: tuple[str, str]) -> Resource:
    system, value = identifier
    return {"system": system, "value": value}


def _reference(key: ResourceKey) -> Resource:
    return {"reference": str(key)}


def _concept(codings: Iterable[Coding]) -> Resource:
    return {
        "coding": [
            {"system": c.system, "code": c.code, **({"display": c.display} if c.display else {})}
            for c in codings
        ]
    }


def _normal(value: Any) -> Any:
    """NamedTuples as lists, decimals by value: 7 and 7.0 are the same limit."""
    if isinstance(value, Decimal):
        return str(value.normalize())
    if isinstance(value, tuple):
        return [_normal(part) for part in value]
    return value
