"""Aggregates of one patient and period: how many readings, how many in target, adherence.

https://hl7.org/fhir/R4/measurereport.html. Of every Goal the share of readings within its
limits, of every planned measurement the share of those taken; no reading's value is in it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from adapters.insurer.policy import measured
from fhir_server.core import date_range
from fhir_server.core.quantity import UCUM, parse_unit
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

MEASURE = "https://pmp.example/fhir/Measure/home-monitoring"
REPORT_SYSTEM = "https://pmp.example/fhir/NamingSystem/insurer-report"
GROUP_SYSTEM = "https://pmp.example/fhir/CodeSystem/home-monitoring-group"

_POPULATION = "http://terminology.hl7.org/CodeSystem/measure-population"
_VALID = frozenset({"final", "amended", "corrected"})
_DAYS = {"d": 1, "wk": 7}
_ONE = {"system": UCUM, "code": "1"}

Coding = tuple[str, str]


class Period(NamedTuple):
    """Whole days in the server's time zone, both within it."""

    first: date
    last: date

    @classmethod
    def of(cls, day: date, kind: str) -> "Period":
        """The month or day that `day` is in."""
        if kind == "day":
            return cls(day, day)
        first = day.replace(day=1)
        return cls(first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1))

    @classmethod
    def parse(cls, text: str) -> "Period":
        """What `str` gives back; of what a group is called."""
        return cls.of(date.fromisoformat(f"{text}-01"[:10]), "day" if len(text) > 7 else "month")

    def __str__(self) -> str:
        return self.first.isoformat()[: 10 if self.first == self.last else 7]

    def criteria(self) -> list[tuple[str, str]]:
        after = self.last + timedelta(days=1)
        return [("date", f"ge{self.first}"), ("date", f"lt{after}")]


def local_day(resource: Resource, zone: ZoneInfo) -> date | None:
    """The day on which an Observation began, where the server is."""
    try:
        found = measured(resource, zone)
        start = None if found is None else date_range.to_datetime(found.start)
        return None if start is None else start.astimezone(zone).date()
    except (ValueError, OverflowError):
        return None


class Facts(NamedTuple):
    """What a report is made from; `observations` are those that the insurer may count."""

    observations: Sequence[Resource]
    goals: Sequence[Resource]
    plans: Sequence[Resource]


def report(
    facts: Facts,
    subject: Mapping[str, Any],
    name: str,
    period: Period,
    now: datetime,
    zone: ZoneInfo,
) -> Resource:
    """The MeasureReport of a period, the same for the same facts but for its date.

    Args:
        facts: of the patient, in the period.
        subject: the Patient as the insurer knows it.
        name: what tells this patient's reports from others', here alone.
        period: the days it is about; of those to come nothing is expected.
        now: when it is made.
        zone: where the days are.
    """
    days = [d for each in facts.observations if (d := local_day(each, zone))]
    groups = [
        _group("readings", "Readings", len(facts.observations), len(set(days)), None),
        *_goals(facts),
        *_adherence(facts, period, now.astimezone(zone).date(), zone),
    ]
    return {
        "resourceType": "MeasureReport",
        "identifier": [{"system": REPORT_SYSTEM, "value": report_value(name, period)}],
        "status": "complete",
        "type": "individual",
        "measure": MEASURE,
        "subject": dict(subject),
        "date": format_instant(now),
        "period": {"start": period.first.isoformat(), "end": period.last.isoformat()},
        "group": groups,
    }


def report_value(name: str, period: Period) -> str:
    """The identifier's value: it tells neither the patient nor anything of the server."""
    return hashlib.sha256(f"{name}/{period}".encode()).hexdigest()[:40]


def _goals(facts: Facts) -> Iterator[Resource]:
    for goal in facts.goals:
        if goal.get("lifecycleStatus") not in ("active", "on-hold", "completed", "accepted"):
            continue
        for target in goal.get("target") or ():
            codes = _codings(target.get("measure"))
            verdicts = [
                verdict
                for observation in facts.observations
                if observation.get("status") in _VALID
                for quantity in _quantities(observation, codes)
                if (verdict := _is_in(quantity, target)) is not None
            ]
            if codes and ("detailRange" in target or "detailQuantity" in target):
                yield _group(
                    "in-target",
                    _display(target.get("measure")),
                    len(verdicts),
                    sum(verdicts),
                    _share(sum(verdicts), len(verdicts)),
                )


def _adherence(facts: Facts, period: Period, today: date, zone: ZoneInfo) -> Iterator[Resource]:
    """Of what was planned for each day or week; other rhythms are not counted."""
    for plan in facts.plans:
        if plan.get("status") not in ("active", "completed", "on-hold"):
            continue
        first, last = _bounds(plan, period, today, zone)
        for activity in plan.get("activity") or ():
            detail = activity.get("detail") or {}
            repeat = (detail.get("scheduledTiming") or {}).get("repeat") or {}
            codes, length = _codings(detail.get("code")), _days_of(repeat)
            times = int(repeat.get("frequency", 1))
            stretches = ((last - first).days + 1) // length if length and first <= last else 0
            if not codes or not stretches or repeat.get("dayOfWeek"):
                continue
            taken: Counter[int] = Counter()
            for each in facts.observations:
                day = local_day(each, zone)
                if day is None or each.get("status") not in _VALID or not _has(each, codes):
                    continue
                stretch = (day - first).days // length
                if 0 <= stretch < stretches:
                    taken[stretch] += 1
            kept = sum(min(number, times) for number in taken.values())
            expected = times * stretches
            name = _display(detail.get("code"))
            yield _group("adherence", name, expected, kept, _share(kept, expected))


def _days_of(repeat: Mapping[str, Any]) -> int:
    period = repeat.get("period", 1)
    unit = _DAYS.get(str(repeat.get("periodUnit")), 0)
    return int(period) * unit if period == int(period) else 0


def _bounds(plan: Resource, period: Period, today: date, zone: ZoneInfo) -> tuple[date, date]:
    """The days of the period in which the plan asked for something, up to yesterday's end."""
    first, last = period.first, min(period.last, today - timedelta(days=1))
    given = plan.get("period") or {}
    for name in ("start", "end"):
        if isinstance(given.get(name), str):
            found = date_range.parse(given[name], zone)
            micro = found.start if name == "start" else found.end - 1
            day = date_range.to_datetime(micro).astimezone(zone).date()
            first, last = (max(first, day), last) if name == "start" else (first, min(last, day))
    return first, last


def _group(code: str, text: str, whole: int, part: int, score: Decimal | None) -> Resource:
    return {
        "code": {"coding": [{"system": GROUP_SYSTEM, "code": code}], "text": text},
        "population": [_population("denominator", whole), _population("numerator", part)],
        **({} if score is None else {"measureScore": {"value": score, **_ONE}}),
    }


def _population(code: str, number: int) -> Resource:
    return {"code": {"coding": [{"system": _POPULATION, "code": code}]}, "count": number}


def _share(part: int, whole: int) -> Decimal | None:
    if not whole:
        return None
    return (Decimal(part) / Decimal(whole)).quantize(Decimal("0.001"), ROUND_HALF_UP)


def _is_in(quantity: Mapping[str, Any], target: Mapping[str, Any]) -> bool | None:
    """Whether a measurement is within the limits; None where the two do not compare."""
    limits = target.get("detailRange")
    low, high = None, None
    if isinstance(limits, dict):
        low, high = limits.get("low"), limits.get("high")
    else:
        bound = target.get("detailQuantity") or {}
        comparator = bound.get("comparator", "")
        low = bound if comparator in (">=", ">", "") else None
        high = bound if comparator in ("<=", "<", "") else None
        if comparator in (">", "<") and _compare(quantity, bound) == 0:
            return False
    below = _compare(quantity, low) if low else 0
    above = _compare(quantity, high) if high else 0
    if below is None or above is None:
        return None
    return below >= 0 >= above if low and high else (below >= 0 if low else above <= 0)


def _compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> int | None:
    left, right = _canonical(one), _canonical(other)
    if left is None or right is None or left[0] != right[0]:
        return None
    return (left[1] > right[1]) - (left[1] < right[1])


def _canonical(quantity: Mapping[str, Any]) -> tuple[str, Decimal] | None:
    value = quantity.get("value")
    if value is None:
        return None
    number, code = Decimal(value), str(quantity.get("code") or quantity.get("unit") or "")
    unit = parse_unit(code) if quantity.get("system", UCUM) == UCUM else None
    return (code, number) if unit is None else (unit.code, unit.canonical(number))


def _quantities(observation: Resource, codes: frozenset[Coding]) -> Iterator[Mapping[str, Any]]:
    """Measurements of one of the codes; "less than 20" is none that limits compare with."""
    for holder in (observation, *(observation.get("component") or ())):
        quantity = holder.get("valueQuantity")
        if quantity and "comparator" not in quantity and codes & _codings(holder.get("code")):
            yield quantity


def _has(observation: Resource, codes: frozenset[Coding]) -> bool:
    holders: Iterable[Any] = (observation, *(observation.get("component") or ()))
    return any(not _codings(holder.get("code")).isdisjoint(codes) for holder in holders)


def _codings(concept: Mapping[str, Any] | None) -> frozenset[Coding]:
    codings = (concept or {}).get("coding") or ()
    return frozenset((c.get("system", ""), c["code"]) for c in codings if "code" in c)


def _display(concept: Mapping[str, Any] | None) -> str:
    concept = concept or {}
    first: Mapping[str, Any] = next(iter(concept.get("coding") or ()), {})
    return str(concept.get("text") or first.get("display") or first.get("code") or "?")
