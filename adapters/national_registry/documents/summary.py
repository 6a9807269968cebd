"""The readings of a period as the document tells them: what was measured, how, how often.

Means are in decimals and rounded to one digit more than was measured; which readings were
within the physician's limits is counted, not judged.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple

from adapters.national_registry.translate import AUXILIARY, STANDING_SYSTEM
from fhir_server.core.measurement import MeasuredUnit, Measurements, convert, measure
from fhir_server.core.quantity import UCUM
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest

_COUNTED = frozenset({"final", "amended", "corrected"})
_DAYS: Mapping[str, Decimal] = {
    "h": Decimal(1) / 24,
    "d": Decimal(1),
    "wk": Decimal(7),
    "mo": Decimal(30),
}


class Code(NamedTuple):
    """A coding, without its words."""

    system: str
    code: str


class Row(NamedTuple):
    """One thing that was measured. `within` counts those between the limits.

    `days` are those with a reading, by the date as it was written at the patient's.
    """

    code: Code
    display: str
    unit: str
    measured: int
    days: int
    mean: Decimal
    lowest: Decimal
    highest: Decimal
    low: Decimal | None = None
    high: Decimal | None = None
    within: int | None = None


class Adherence(NamedTuple):
    """What was asked for and what came, of one activity over the period."""

    display: str
    planned: int
    done: int


class Limits(NamedTuple):
    """The physician's, both included; `unit` is a UCUM code."""

    low: Decimal | None
    high: Decimal | None
    unit: str


def is_counted(observation: Resource, *, is_auxiliary_counted: bool) -> bool:
    """Whether a reading is one that a document may rest on."""
    tags = (observation.get("meta") or {}).get("tag") or ()
    is_auxiliary = any(
        tag.get("system") == STANDING_SYSTEM and tag.get("code") == AUXILIARY for tag in tags
    )
    return observation.get("status") in _COUNTED and (is_auxiliary_counted or not is_auxiliary)


def summarize(readings: Sequence[Resource], goals: Iterable[Resource]) -> tuple[Row, ...]:
    """A row for each code, in the order of the codes."""
    limits = dict(_limits(goals))
    holders: dict[Code, list[Resource]] = defaultdict(list)
    for reading in readings:
        for code in _codes(reading):
            holders[code].append(reading)
    rows = (_row(code, found, limits.get(code)) for code, found in sorted(holders.items()))
    return tuple(row for row in rows if row is not None)


def adherence(
    plan: Resource, readings: Sequence[Resource], first: date, last: date
) -> tuple[Adherence, ...]:
    """Of the plan's activities that say how often, in its order."""
    days = (last - first).days + 1
    found: list[Adherence] = []
    for activity in plan.get("activity") or ():
        detail = activity.get("detail") or {}
        repeat = (detail.get("scheduledTiming") or {}).get("repeat") or {}
        unit = _DAYS.get(repeat.get("periodUnit", ""))
        codings = [_code(c) for c in (detail.get("code") or {}).get("coding") or ()]
        if unit is None or not codings:
            continue
        span = Decimal(repeat.get("period", 1)) * unit
        if span <= 0:
            continue
        planned = int(Decimal(repeat.get("frequency", 1)) * days / span)
        done = sum(any(code in codings for code in _own_codes(each)) for each in readings)
        display = (detail["code"].get("text")) or _display(detail["code"], codings[0])
        found.append(Adherence(display, planned, done))
    return tuple(found)


def day(observation: Resource) -> str:
    """The date as it is written; "" for none."""
    period = observation.get("effectivePeriod") or {}
    written = observation.get("effectiveDateTime") or period.get("start") or ""
    return str(written)[:10]


def _row(code: Code, readings: Sequence[Resource], limits: Limits | None) -> Row | None:
    try:
        found = measure(readings, code.system, code.code)
    except InvalidRequest:
        # Units that do not convert into each other have no mean; the readings are there.
        return None
    if not found.values or found.unit is None:
        return None
    values = found.values
    low, high = _converted(limits, found)
    within = None
    if low is not None or high is not None:
        within = sum(
            (low is None or value >= low) and (high is None or value <= high) for value in values
        )
    return Row(
        code,
        _display(found.concept or {}, code),
        found.unit.display or found.unit.code or "",
        len(values),
        len({day(each) for each in readings}),
        _mean(values),
        min(values),
        max(values),
        low,
        high,
        within,
    )


def _mean(values: Sequence[Decimal]) -> Decimal:
    places = max(max(0, -int(value.as_tuple().exponent)) for value in values) + 1
    mean = sum(values, Decimal(0)) / len(values)
    return mean.quantize(Decimal(1).scaleb(-min(places, 4)), ROUND_HALF_EVEN)


def _limits(goals: Iterable[Resource]) -> Iterable[tuple[Code, Limits]]:
    for goal in goals:
        for target in goal.get("target") or ():
            limits = _limit(target)
            if limits is not None:
                for coding in (target.get("measure") or {}).get("coding") or ():
                    yield _code(coding), limits


def _limit(target: Mapping[str, Any]) -> Limits | None:
    bounds = target.get("detailRange") or {}
    one = target.get("detailQuantity")
    low, high = bounds.get("low"), bounds.get("high")
    if one is not None and str(one.get("comparator", "")).startswith(">"):
        low = one
    elif one is not None and str(one.get("comparator", "")).startswith("<"):
        high = one
    known = low or high
    if known is None:
        return None
    unit = str(known.get("code", ""))
    return Limits(_value(low), _value(high), unit)


def _value(quantity: Mapping[str, Any] | None) -> Decimal | None:
    return Decimal(quantity["value"]) if quantity and "value" in quantity else None


def _converted(limits: Limits | None, found: Measurements) -> tuple[Decimal | None, Decimal | None]:
    """The limits in the unit of the measurements; none where it cannot be told."""
    if limits is None or found.unit is None:
        return None, None
    unit = found.unit
    if limits.unit == (unit.code or ""):
        return limits.low, limits.high
    own = MeasuredUnit(UCUM, limits.unit, None)
    try:
        low, high = (
            None if each is None else convert(each, own, unit) for each in (limits.low, limits.high)
        )
    except InvalidRequest:
        return None, None
    return low, high


def _codes(reading: Resource) -> set[Code]:
    holders = [reading, *(reading.get("component") or ())]
    return {
        _code(coding)
        for holder in holders
        if "valueQuantity" in holder
        for coding in ((holder.get("code") or {}).get("coding") or ())[:1]
    }


def _own_codes(reading: Resource) -> list[Code]:
    return [_code(coding) for coding in (reading.get("code") or {}).get("coding") or ()]


def _code(coding: Mapping[str, Any]) -> Code:
    return Code(str(coding.get("system", "")), str(coding.get("code", "")))


def _display(concept: Mapping[str, Any], code: Code) -> str:
    if code.code in NAMES:
        return NAMES[code.code]
    for coding in concept.get("coding") or ():
        if _code(coding) == code and coding.get("display"):
            return str(coding["display"])
    return str(concept.get("text") or code.code)


# What the document calls a LOINC code; everything else has its display in the resource.
NAMES: Mapping[str, str] = {
    "8480-6": "Систолическое артериальное давление",
    "8462-4": "Диастолическое артериальное давление",
    "8478-0": "Среднее артериальное давление",
    "85354-9": "Артериальное давление",
    "8867-4": "Частота сердечных сокращений",
    "29463-7": "Масса тела",
    "8302-2": "Рост",
    "8310-5": "Температура тела",
    "59408-5": "Насыщение крови кислородом",
    "2708-6": "Насыщение крови кислородом",
    "14743-9": "Глюкоза крови",
    "41653-7": "Глюкоза крови",
    "55423-8": "Число шагов",
}
