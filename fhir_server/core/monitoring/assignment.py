"""Who has which device when: devices, their assignments, their patients and plans as values.

https://hl7.org/fhir/R4/deviceusestatement.html

An assignment is what a DeviceUseStatement says; nothing else is one. A statement that
is `entered-in-error` or only `intended`, or that names no time, assigns nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.resource_json import Resource

AUXILIARY = ("https://pmp.example/fhir/CodeSystem/device-standing", "auxiliary")

_ASSIGNS_NOTHING = frozenset({"entered-in-error", "intended"})
_ACTIVITY_IS_OVER = frozenset({"cancelled", "stopped", "entered-in-error", "revoked", "draft"})

Code = tuple[str, str]


class Assignment(NamedTuple):
    """One DeviceUseStatement: `patient` has the device in `period`.

    FHIR's end of a Period belongs to it: the whole day of "2024-03-31", the whole second
    of "10:00:00". From `leaving` on, the last second of an end that has a time of day,
    the patient is the holder only if nobody else is, so one who takes over at the very
    instant the other ends is no overlap. Ends of a whole day share the day.
    """

    statement: ResourceKey
    patient: ResourceKey
    period: DateRange
    leaving: int


class DeviceRecord(NamedTuple):
    """A Device as placing sees it; `identifiers` in its own order, the first is its name.

    `former` are patients that a correction took it from: readings that were stored as
    theirs keep the name that they were given then.
    """

    key: ResourceKey
    identifiers: tuple[IdentifierToken, ...]
    is_auxiliary: bool
    assignments: tuple[Assignment, ...] = ()
    former: tuple[ResourceKey, ...] = ()


class Plan(NamedTuple):
    """An active CarePlan: when it runs and the codes of what it asks to be measured.

    `requests` are the ServiceRequests that say so beside it.
    """

    key: ResourceKey
    period: DateRange
    codes: frozenset[Code]
    requests: frozenset[ResourceKey] = frozenset()


class PatientRecord(NamedTuple):
    """A Patient as placing sees it."""

    key: ResourceKey
    identifiers: tuple[IdentifierToken, ...]
    plans: tuple[Plan, ...] = ()


def holders(assignments: Iterable[Assignment], instant: int) -> frozenset[ResourceKey]:
    """The patients who have the device at `instant`: none, the one, or an overlap."""
    holding = [a for a in assignments if a.period.start <= instant < a.period.end]
    if len(holding) < 2:
        return frozenset([a.patient for a in holding])
    staying = [a for a in holding if instant < a.leaving]
    return frozenset([a.patient for a in staying or holding])


def is_overlap(one: Assignment, other: Assignment) -> bool:
    """Whether at some instant both would be holders."""
    start = max(one.period.start, other.period.start)
    if start < min(one.leaving, other.leaving):
        return True
    return max(start, one.leaving, other.leaving) < min(one.period.end, other.period.end)


def parse_assignment(
    key: ResourceKey, statement: Resource, zone: tzinfo
) -> tuple[ResourceKey, Assignment] | None:
    """The device and its assignment, or None if the statement assigns nothing.

    `key` is the statement's own; `zone` is that of dates without a time.
    """
    if statement.get("status") in _ASSIGNS_NOTHING:
        return None
    device = local_key(statement.get("device"), "Device")
    patient = local_key(statement.get("subject"), "Patient")
    stretch = _timing(statement, zone)
    if device is None or patient is None or stretch is None:
        return None
    period, leaving = stretch
    return device, Assignment(key, patient, period, leaving)


def parse_device(key: ResourceKey, device: Resource) -> DeviceRecord | None:
    """The record of a Device, its assignments still to be added; None for one that is not real."""
    if device.get("status") == "entered-in-error":
        return None
    return DeviceRecord(key, parse_identifiers(device), is_auxiliary(device))


def is_auxiliary(resource: Resource) -> bool:
    """Whether a Device, or what it measured, is tagged as not of a medical device."""
    tags = (resource.get("meta") or {}).get("tag", ())
    return any((tag.get("system"), tag.get("code")) == AUXILIARY for tag in tags)


def parse_plan(
    key: ResourceKey,
    care_plan: Resource,
    zone: tzinfo,
    requests: Mapping[ResourceKey, Resource],
) -> Plan | None:
    """The plan that readings can answer; None while it is not active or asks for nothing.

    `requests` are the ServiceRequests that it points to, those that are there.
    """
    if care_plan.get("status") != "active":
        return None
    pointed_to = requested_by(care_plan)
    details = [activity.get("detail") for activity in care_plan.get("activity", ())]
    codes = frozenset(
        code
        for detail in (*details, *(requests.get(request) for request in pointed_to))
        if detail and detail.get("status") not in _ACTIVITY_IS_OVER
        for code in concept_codes(detail.get("code"))
    )
    if not codes:
        return None
    stretch = _period(care_plan.get("period") or {}, zone)
    period = stretch[0] if stretch else DateRange(EARLIEST, LATEST)
    return Plan(key, period, codes, frozenset(pointed_to))


def requested_by(care_plan: Resource) -> tuple[ResourceKey, ...]:
    """The ServiceRequests that a plan's activities point to."""
    found = (
        local_key(activity.get("reference"), "ServiceRequest")
        for activity in care_plan.get("activity", ())
    )
    return tuple(key for key in found if key is not None)


def parse_identifiers(resource: Resource) -> tuple[IdentifierToken, ...]:
    """The identifiers that have a value, in their order."""
    return tuple(
        IdentifierToken(identifier.get("system"), identifier["value"])
        for identifier in resource.get("identifier", ())
        if identifier.get("value")
    )


def concept_codes(concept: Mapping[str, Any] | None) -> tuple[Code, ...]:
    """`(system, code)` of every coding that has a code."""
    return tuple(
        (coding.get("system", ""), coding["code"])
        for coding in (concept or {}).get("coding", ())
        if coding.get("code")
    )


def local_key(reference: Any, resource_type: str) -> ResourceKey | None:
    """What a Reference to a `resource_type` of this server points to, of whatever version."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    parts = text.split("/") if isinstance(text, str) else []
    if len(parts) not in (2, 4) or parts[0] != resource_type:
        return None
    if len(parts) == 4 and parts[2] != "_history":
        return None
    return ResourceKey(resource_type, parts[1])


def is_named(patient: PatientRecord, token: IdentifierToken) -> bool:
    """Whether `token` names the patient: by an identifier, or without a system by id."""
    if token.system is not None:
        return token in patient.identifiers
    return token.value in (patient.key.resource_id, str(patient.key)) or any(
        token.value == identifier.value for identifier in patient.identifiers
    )


def answered_plans(
    plans: Sequence[Plan], codes: Iterable[Code], instant: int
) -> tuple[ResourceKey, ...]:
    """The plans that asked for what was measured, while they ran."""
    measured = frozenset(codes)
    return tuple(
        plan.key
        for plan in plans
        if plan.period.start <= instant < plan.period.end and not measured.isdisjoint(plan.codes)
    )


def _timing(statement: Resource, zone: tzinfo) -> tuple[DateRange, int] | None:
    """The stretch a statement is about and where its last second begins."""
    if period := statement.get("timingPeriod"):
        return _period(period, zone)
    if moment := statement.get("timingDateTime"):
        stretch = date_range.parse(moment, zone)
        return stretch, stretch.end
    return None


def _period(period: Mapping[str, Any], zone: tzinfo) -> tuple[DateRange, int] | None:
    start, end = period.get("start"), period.get("end")
    if not start and not end:
        return None
    first = date_range.parse(start, zone).start if start else EARLIEST
    if not end:
        return DateRange(first, LATEST), LATEST
    last = date_range.parse(end, zone)
    return DateRange(first, last.end), last.start if "T" in end else last.end
