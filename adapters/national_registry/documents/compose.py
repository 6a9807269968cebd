"""Facts of the store into what a document says; pure.

Only what was measured and asked for is told: a document of readings judges nobody.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from adapters.national_registry.documents.content import (
    Activity,
    Content,
    DeviceLine,
    Diagnosis,
    Kind,
    LimitLine,
)
from adapters.national_registry.documents.facts import Facts
from adapters.national_registry.documents.parties import (
    Author,
    Organization,
    patient_party,
    practitioner_author,
)
from adapters.national_registry.documents.summary import adherence, is_counted, summarize
from adapters.national_registry.translate import AUXILIARY, STANDING_SYSTEM
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryRejected

_ICD_10 = frozenset({"http://hl7.org/fhir/sid/icd-10", "urn:oid:1.2.643.5.1.13.13.11.1005"})
_UNITS = {"h": "ч", "d": "сут", "wk": "нед", "mo": "мес"}


class House(NamedTuple):
    """Who sends: the settings' part of every document.

    `author` stands where a plan names none. `is_strict` refuses numbers whose check fails.
    """

    organization: Organization
    author: Author | None = None
    is_strict: bool = False
    is_auxiliary_counted: bool = False
    time_zone: str = "Europe/Moscow"


class Place(NamedTuple):
    """Where a document stands among its versions; `uid` is its own UUID."""

    uid: str
    set_id: str
    number: int
    replaces: str


def compose_content(
    facts: Facts,
    kind: Kind,
    period: tuple[date, date | None],
    place: Place,
    house: House,
    created: datetime,
) -> Content:
    """
    Raises:
        DeliveryRejected: something that the registry asks for is missing here.
    """
    first, last = period
    counted = [
        each
        for each in facts.readings
        if is_counted(each, is_auxiliary_counted=house.is_auxiliary_counted)
    ]
    content = Content(
        kind,
        place.uid,
        place.set_id,
        place.number,
        place.replaces,
        created.astimezone(ZoneInfo(house.time_zone)),
        first,
        last,
        str(facts.plan.get("title", "")),
        patient_party(facts.patient, is_strict=house.is_strict),
        _author(facts, house),
        house.organization,
        diagnoses=tuple(_diagnosis(each) for each in facts.conditions),
        devices=tuple(_device(each) for each in facts.devices),
        activities=tuple(_activities(facts.plan)),
        limits=tuple(_limits(facts.goals)),
    )
    if kind is Kind.REFERRAL:
        return content
    rows = summarize(counted, facts.goals)
    until = last or created.date()
    return content._replace(rows=rows, adherence=adherence(facts.plan, counted, first, until))


def _author(facts: Facts, house: House) -> Author:
    if facts.practitioner is not None:
        return practitioner_author(facts.practitioner, is_strict=house.is_strict)
    if house.author is None:
        raise DeliveryRejected(f"CarePlan/{facts.plan.get('id', '')} has no CarePlan.author")
    return house.author


def _diagnosis(condition: Resource) -> Diagnosis:
    code = condition.get("code") or {}
    for coding in code.get("coding") or ():
        if coding.get("system") in _ICD_10:
            return Diagnosis(coding.get("code", ""), coding.get("display") or code.get("text", ""))
    return Diagnosis("", _words(code))


def _device(device: Resource) -> DeviceLine:
    names = [name.get("name", "") for name in device.get("deviceName") or ()]
    identifiers = [each.get("value", "") for each in device.get("identifier") or ()]
    tags = (device.get("meta") or {}).get("tag") or ()
    return DeviceLine(
        names[0] if names else _words(device.get("type") or {}),
        device.get("modelNumber", ""),
        device.get("manufacturer", ""),
        device.get("serialNumber") or (identifiers[0] if identifiers else ""),
        any(t.get("system") == STANDING_SYSTEM and t.get("code") == AUXILIARY for t in tags),
    )


def _activities(plan: Resource) -> Iterator[Activity]:
    for activity in plan.get("activity") or ():
        detail = activity.get("detail") or {}
        if "code" in detail:
            repeat = (detail.get("scheduledTiming") or {}).get("repeat") or {}
            yield Activity(_words(detail["code"]), _how_often(repeat))


def _how_often(repeat: Mapping[str, Any]) -> str:
    if "periodUnit" not in repeat:
        return ""
    unit = _UNITS.get(repeat["periodUnit"], repeat["periodUnit"])
    period = repeat.get("period", 1)
    span = unit if period == 1 else f"{period} {unit}"
    return f"{repeat.get('frequency', 1)} раз в {span}"


def _limits(goals: Iterable[Resource]) -> Iterator[LimitLine]:
    for goal in goals:
        for target in goal.get("target") or ():
            bounds = target.get("detailRange") or {}
            quantity = target.get("detailQuantity")
            if bounds:
                low, high = bounds.get("low") or {}, bounds.get("high") or {}
                unit = low.get("unit") or high.get("unit") or ""
                words = f"{low.get('value', '')} – {high.get('value', '')} {unit}".strip()
            elif quantity:
                side = {">": "от", "<": "до"}.get(str(quantity.get("comparator", ""))[:1], "")
                words = f"{side} {quantity.get('value', '')} {quantity.get('unit', '')}".strip()
            else:
                continue
            yield LimitLine(_words(target.get("measure") or {}), words)


def _words(concept: Mapping[str, Any]) -> str:
    codings = concept.get("coding") or ()
    displays = (coding.get("display") or coding.get("code") for coding in codings)
    return str(concept.get("text") or next(filter(None, displays), ""))
