"""Bounds: what criteria of AuditEvents say of patient and time, to walk less of the trail.

Wider than the criteria is fine, narrower never: what is walked is compared afterwards.
"""

from collections.abc import Iterable
from typing import NamedTuple

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.query import (
    AllOf,
    AnyOf,
    Clause,
    Criterion,
    DateValue,
    Prefix,
    ReferenceValue,
    TokenValue,
)

_REFERRING = ("patient", "entity", "agent")
_TIMES = ("date", "_lastUpdated")


class Bounds(NamedTuple):
    """`patient` is "Patient/42", None for any; times are milliseconds, both belonging.

    `ids` are the only events that it can be.
    """

    patient: str | None = None
    start: int | None = None
    end: int | None = None
    ids: tuple[str, ...] | None = None


def bounds_of(criteria: Iterable[Criterion]) -> Bounds:
    """What holds of every event that `criteria` are all true of."""
    bounds = Bounds()
    for criterion in criteria:
        found = _of_one(criterion)
        bounds = Bounds(
            bounds.patient or found.patient,
            _later(bounds.start, found.start),
            _earlier(bounds.end, found.end),
            found.ids if bounds.ids is None else bounds.ids,
        )
    return bounds


def _of_one(criterion: Criterion) -> Bounds:
    match criterion:
        case AllOf(criteria):
            return bounds_of(criteria)
        case AnyOf(criteria):
            patients = {_of_one(each).patient for each in criteria}
            return Bounds(patients.pop() if len(patients) == 1 else None)
        case Clause(parameter, "", values) if parameter.code == "_id":
            return Bounds(ids=tuple(str(v.code) for v in values if isinstance(v, TokenValue)))
        case Clause(parameter, "", (value,)):
            if parameter.code in _REFERRING and isinstance(value, ReferenceValue):
                return Bounds(_patient(parameter.code, value))
            if parameter.code in _TIMES and isinstance(value, DateValue):
                return _times(value.prefix, value.range)
    return Bounds()


def _patient(code: str, value: ReferenceValue) -> str | None:
    if value.url is not None or value.resource_id is None:
        return None
    known = value.resource_type or ("Patient" if code == "patient" else None)
    return f"Patient/{value.resource_id}" if known == "Patient" else None


def _times(prefix: Prefix, asked: DateRange) -> Bounds:
    # In microseconds; rounded outwards.
    start, end = asked.start // 1000 - 1, asked.end // 1000 + 1
    if prefix is Prefix.EQ:
        return Bounds(None, start, end)
    if prefix in (Prefix.GE, Prefix.GT, Prefix.SA):
        return Bounds(None, start, None)
    if prefix in (Prefix.LE, Prefix.LT, Prefix.EB):
        return Bounds(None, None, end)
    return Bounds()


def _later(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _earlier(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
