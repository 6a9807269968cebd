"""What an Observation measured, as the rules of monitoring see it.

What was not measured is no number: a value that is absent says nothing, HI and LO say on
which side of their limit the value lies. What came from an auxiliary device is not judged.
https://hl7.org/fhir/R4/observation.html
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.form import Filled, Form
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.assignment import Code, concept_codes, is_auxiliary, local_key
from fhir_server.core.quantity import UCUM, parse_unit
from fhir_server.core.resource_json import Resource

COUNTS = frozenset({"final", "amended", "corrected", "preliminary"})
_KEPT = "monitoring.measured"
# Gaps of a form that nothing here looks at.
_NOT_SEEN = frozenset({"id", "identifier", "performer", "device", "issued", "basedOn"})


class Number(NamedTuple):
    """`value` in `unit` (a UCUM code), of a thing that any of `codes` names.

    `comparator` is FHIR's ("<", "<=", ">=", ">"), "" for a value that is exact.
    """

    codes: tuple[Code, ...]
    value: Decimal
    unit: str
    comparator: str


class Measured(NamedTuple):
    """An Observation that is judged: of whom, when, by what codes, and its numbers.

    `moment` is a dateTime, the start of what it is about; None where it is not known.
    """

    patient: ResourceKey
    moment: str | None
    codes: tuple[Code, ...]
    numbers: tuple[Number, ...]

    def instant(self, zone: tzinfo) -> int | None:
        """`moment` in microseconds since 1970; `zone` is that of one without an offset."""
        return date_range.parse(self.moment, zone).start if self.moment else None


class _Blueprint(NamedTuple):
    """What the Observations of a form have alike, and which gaps fill the rest."""

    subject: int
    moment: int
    codes: tuple[Code, ...]
    numbers: tuple[tuple[tuple[Code, ...], int, str, str], ...]


def measured(observation: Resource | Filled) -> Measured | None:
    """What it measured; None for what is not judged: it does not count, or is auxiliary."""
    if isinstance(observation, Filled):
        return _measured_of_form(observation)
    if observation.get("status") not in COUNTS or is_auxiliary(observation):
        return None
    patient = local_key(observation.get("subject"), "Patient")
    if patient is None:
        return None
    numbers = tuple(_numbers((observation, *observation.get("component", ()))))
    return Measured(
        patient, moment_of(observation), concept_codes(observation.get("code")), numbers
    )


def subject_of(observation: Resource | Filled) -> ResourceKey | None:
    """The patient whom it may be about, if it is judged: known before what was measured is."""
    if not isinstance(observation, Filled):
        return local_key(observation.get("subject"), "Patient")
    blueprint = _kept_blueprint(observation)
    if not isinstance(blueprint, _Blueprint):
        found = measured(observation.resource()) if blueprint else None
        return None if found is None else found.patient
    return _patient(observation.values[blueprint.subject])


def in_unit(value: Decimal, unit: str, wanted: str) -> Decimal | None:
    """`value` in the unit `wanted`; None where the two units are not of one kind."""
    if unit == wanted:
        return value
    have, want = parse_unit(unit), parse_unit(wanted)
    if have is None or want is None or have.code != want.code:
        return None
    return (have.canonical(value) - want.offset) * want.denominator / want.numerator


def moment_of(observation: Resource) -> str | None:
    """When it was measured, as it is written; the start of a stretch of time."""
    moment = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    if moment is None:
        period = observation.get("effectivePeriod") or {}
        moment = period.get("start") or period.get("end")
    return moment


def _numbers(elements: Iterable[Mapping[str, Any]]) -> Iterator[Number]:
    for element in elements:
        quantity = element.get("valueQuantity")
        if quantity is None or quantity.get("system") != UCUM or "value" not in quantity:
            continue
        value = quantity["value"]
        if not isinstance(value, Decimal):
            value = Decimal(value) if isinstance(value, int) else Decimal(str(value))
        codes = concept_codes(element.get("code"))
        yield Number(codes, value, quantity.get("code", ""), quantity.get("comparator", ""))


def _measured_of_form(filled: Filled) -> Measured | None:
    values = filled.values
    blueprint = _kept_blueprint(filled)
    if not isinstance(blueprint, _Blueprint):
        return measured(filled.resource()) if blueprint else None
    numbers = tuple(
        Number(codes, values[gap], unit, comparator)  # type: ignore[arg-type]
        for codes, gap, unit, comparator in blueprint.numbers
    )
    moment: Any = values[blueprint.moment]
    return Measured(_patient(values[blueprint.subject]), moment, blueprint.codes, numbers)


def _patient(reference: Any) -> ResourceKey:
    resource_type, _, resource_id = reference.partition("/")
    return ResourceKey(resource_type, resource_id)


def _kept_blueprint(filled: Filled) -> _Blueprint | bool:
    form = filled.form
    try:
        blueprint: _Blueprint | bool = form.kept[_KEPT]
    except KeyError:
        blueprint = form.kept[_KEPT] = _blueprint(form, filled)
    return blueprint


def _blueprint(form: Form, filled: Filled) -> _Blueprint | bool:
    """The blueprint of a form; False if nothing of it is judged, True if it has none."""
    gaps = {path: number for number, gap in enumerate(form.gaps) for path in gap}
    resource = filled.resource()
    if (whole := measured(resource)) is None:
        return False
    subject, moment = gaps.get(("subject", "reference")), gaps.get(("effectiveDateTime",))
    if subject is None or moment is None:
        return True
    elements = (
        ((), resource),
        *((("component", n), c) for n, c in enumerate(_components(resource))),
    )
    numbers = []
    for path, element in elements:
        for number in _numbers((element,)):
            gap = gaps.pop((*path, "valueQuantity", "value"), None)
            if gap is None:
                return True
            numbers.append((number.codes, gap, number.unit, number.comparator))
    seen = {("subject", "reference"), ("effectiveDateTime",), ("meta", "lastUpdated")}
    others = (p for p in gaps if p not in seen and p[0] not in _NOT_SEEN and "extension" not in p)
    if any(others):
        return True
    return _Blueprint(subject, moment, whole.codes, tuple(numbers))


def _components(resource: Resource) -> Iterable[Mapping[str, Any]]:
    found: Iterable[Mapping[str, Any]] = resource.get("component", ())
    return found
