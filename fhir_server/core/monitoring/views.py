"""Views: what many readings say together, as one Observation that is computed anew.

Continuous glucose: mean, GMI, time in range, variation, how much of the time was measured
(https://doi.org/10.2337/dci19-0028). Home blood pressure: the mean of all pairs. A day of
continuous glucose: one SampledData, a sample every five minutes.
"""

from collections.abc import Iterable, Sequence
from datetime import date, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.knowledge import LOINC, UCUM
from fhir_server.core.monitoring.alert import format_moment
from fhir_server.core.resource_json import Resource

VIEW_SYSTEM = "https://pmp.example/fhir/NamingSystem/view"
DERIVED = {
    "system": "https://pmp.example/fhir/CodeSystem/reading-standing",
    "code": "derived",
}
MG_DL, MMOL_L = "mg/dL", "mmol/L"
SLOT = 300 * 1_000_000
MOST_SOURCES = 100

_CONTEXT = Context(prec=40, rounding=ROUND_HALF_UP)
_FACTOR = Decimal("18.0156")
_MEASUREMENT_SYSTEM = "https://pmp.example/fhir/CodeSystem/measurement"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_MEANS = {
    MG_DL: (
        "97507-8",
        "Average glucose [Mass/volume] in Interstitial fluid during Reporting Period",
    ),
    MMOL_L: ("105273-7", "Average glucose [Moles/volume] in Interstitial fluid"),
}
_IN_RANGE = {MG_DL: (Decimal(70), Decimal(180)), MMOL_L: (Decimal("3.9"), Decimal("10.0"))}
_DIGITS = {MG_DL: 0, MMOL_L: 1}
_POINTS = {
    MG_DL: ("99504-3", "Glucose [Mass/volume] in Interstitial fluid"),
    MMOL_L: ("105272-9", "Glucose [Moles/volume] in Interstitial fluid"),
}
_BEYOND = {"<": "L", ">": "U"}
_LIMITS = {"<": "lowerLimit", ">": "upperLimit"}


class Point(NamedTuple):
    """One value of continuous glucose, and the device that it is of, as a reference.

    One beyond the sensor's range is at its limit, with the `comparator` "<" or ">".
    """

    instant: int
    value: Decimal
    unit: str
    comparator: str = ""
    device: str = ""


class Pair(NamedTuple):
    """One measurement of blood pressure in mm[Hg]."""

    key: ResourceKey
    systolic: Decimal
    diastolic: Decimal


class Days(NamedTuple):
    """Whole days of a time zone, both included."""

    first: date
    last: date

    def stretch(self, zone: tzinfo) -> DateRange:
        start = date_range.parse(self.first.isoformat(), zone).start
        return DateRange(start, date_range.parse(self.last.isoformat(), zone).end)

    def period(self) -> dict[str, str]:
        return {"start": self.first.isoformat(), "end": self.last.isoformat()}


def is_derived(observation: Resource) -> bool:
    """Whether the server computed it from other Observations."""
    tags = (observation.get("meta") or {}).get("tag", ())
    return any((t.get("system"), t.get("code")) == tuple(DERIVED.values()) for t in tags)


def glucose_summary(
    patient: ResourceKey, days: Days, points: Sequence[Point], sources: Sequence[str], zone: tzinfo
) -> Resource:
    """The summary of at least one point; `sources` are the Observations it is derived from."""
    unit = points[-1].unit
    values = [_in_unit(point, unit) for point in points]
    mean = _mean(values)
    low, high = _IN_RANGE[unit]
    in_range = sum(1 for value in values if low <= value <= high)
    in_mass = mean if unit == MG_DL else mean * _FACTOR
    gmi = Decimal("3.31") + Decimal("0.02392") * in_mass
    stretch = days.stretch(zone)
    slots = len({(point.instant - stretch.start) // SLOT for point in points})
    code, display = _MEANS[unit]
    components = [
        _component(code, display, _rounded(mean, _DIGITS[unit]), unit),
        _component("97506-0", "Glucose management indicator", _rounded(gmi, 1), "%"),
        _component("97510-2", "Time in range", _share(in_range, len(values)), "%"),
    ]
    if len(values) > 1:
        variation = _CONTEXT.divide(_deviation(values, mean) * 100, mean)
        components.append(
            _component("104638-2", "Coefficient of variation", _rounded(variation, 1), "%")
        )
    measured = {(p.instant - stretch.start) // (288 * SLOT) for p in points}
    whole = max(1, (stretch.end - stretch.start) // SLOT)
    components += [
        _component("104636-6", "Days of continuous glucose", Decimal(len(measured)), "d"),
        _component("104637-4", "Share of the time that was measured", _share(slots, whole), "%"),
    ]
    view = _view(patient, "glucose-summary", days, sources)
    view["code"] = _concept("107931-8", "Continuous glucose monitoring summary")
    return {**view, "category": [_category("laboratory")], "component": components}


def glucose_day(patient: ResourceKey, day: date, points: Sequence[Point], zone: tzinfo) -> Resource:
    """A day as one SampledData of at least one point; a slot without one is `E`.

    Beyond the sensor's range is `L` and `U`, with the limits beside the samples.
    """
    days = Days(day, day)
    stretch = days.stretch(zone)
    unit = points[-1].unit
    # A day of a change of the clock has other than 288.
    slots = ["E"] * ((stretch.end - stretch.start) // SLOT)
    limits: dict[str, Decimal] = {}
    for point in points:
        number = (point.instant - stretch.start) // SLOT
        if 0 <= number < len(slots):
            value = _rounded(_in_unit(point, unit), _DIGITS[unit])
            slots[number] = _BEYOND.get(point.comparator[:1]) or format(value, "f")
            if limit := _LIMITS.get(point.comparator[:1]):
                limits[limit] = value
    view = _view(patient, "glucose-day", days, ())
    view["code"] = _concept(*_POINTS[unit])
    view["effectivePeriod"] = {
        "start": format_moment(stretch.start),
        "end": format_moment(stretch.end - 1),
    }
    view["category"] = [_category("laboratory")]
    view["valueSampledData"] = {
        "origin": {"value": Decimal(0), "unit": unit, "system": UCUM, "code": unit},
        "period": Decimal(300_000),
        **limits,
        "dimensions": 1,
        "data": " ".join(slots),
    }
    if len(devices := {point.device for point in points}) == 1 and (device := devices.pop()):
        view["device"] = {"reference": device}
    return view


def as_kept(day: Resource) -> Resource:
    """The day as it is stored: with a code of its own, or it would be among its points."""
    code = {"system": _MEASUREMENT_SYSTEM, "code": "interstitial-glucose-day"}
    return {**day, "code": {"coding": [code], "text": "Interstitial glucose of a day"}}


def pressure_mean(patient: ResourceKey, days: Days, pairs: Sequence[Pair]) -> Resource:
    """The mean of at least one pair; the newest of them are named as what it is derived from."""
    view = _view(patient, "home-blood-pressure", days, [str(p.key) for p in pairs[-MOST_SOURCES:]])
    view["code"] = _concept("96607-7", "Blood pressure panel mean systolic and mean diastolic")
    view["category"] = [_category("vital-signs")]
    view["component"] = [
        _component(code, display, _rounded(_mean(values), 0), "mm[Hg]")
        for code, display, values in (
            ("96608-5", "Systolic blood pressure mean", [p.systolic for p in pairs]),
            ("96609-3", "Diastolic blood pressure mean", [p.diastolic for p in pairs]),
        )
    ]
    return view


def view_identifier(patient: ResourceKey, kind: str, days: Days) -> tuple[str, str]:
    """System and value of a view: computed again, it is the same one."""
    stretch = f"{days.first.isoformat()}/{days.last.isoformat()}"
    return VIEW_SYSTEM, f"{kind}/{patient.resource_id}/{stretch}"


def _view(patient: ResourceKey, kind: str, days: Days, sources: Sequence[str]) -> Resource:
    system, value = view_identifier(patient, kind, days)
    view: dict[str, Any] = {
        "resourceType": "Observation",
        "meta": {"tag": [DERIVED]},
        "identifier": [{"system": system, "value": value}],
        "status": "final",
        "subject": {"reference": str(patient)},
        "effectivePeriod": days.period(),
    }
    if sources:
        view["derivedFrom"] = [{"reference": source} for source in sources]
    return view


def _component(code: str, display: str, value: Decimal, unit: str) -> Resource:
    quantity = {"value": value, "unit": unit, "system": UCUM, "code": unit}
    return {"code": _concept(code, display), "valueQuantity": quantity}


def _concept(code: str, text: str) -> Resource:
    return {"coding": [{"system": LOINC, "code": code}], "text": text}


def _category(code: str) -> Resource:
    return {"coding": [{"system": _CATEGORY, "code": code}]}


def _in_unit(point: Point, unit: str) -> Decimal:
    if point.unit == unit:
        return point.value
    return point.value * _FACTOR if unit == MG_DL else _CONTEXT.divide(point.value, _FACTOR)


def _mean(values: Sequence[Decimal]) -> Decimal:
    return _CONTEXT.divide(sum(values, Decimal(0)), Decimal(len(values)))


def _deviation(values: Iterable[Decimal], mean: Decimal) -> Decimal:
    squares = [(value - mean) ** 2 for value in values]
    return _CONTEXT.sqrt(_CONTEXT.divide(sum(squares, Decimal(0)), Decimal(len(squares) - 1)))


def _share(part: int, whole: int) -> Decimal:
    return _rounded(_CONTEXT.divide(Decimal(100 * part), Decimal(whole)), 1)


def _rounded(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), context=_CONTEXT)
