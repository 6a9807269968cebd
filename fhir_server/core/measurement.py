"""Measurements of one code in Observations, in one unit.

An Observation has the code itself, or one of its components has it. All values come in the
unit of the first that has one: those in another are converted as UCUM says, exactly.
"""

from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from typing import Any, NamedTuple

from fhir_server.core.quantity import UCUM, Unit, parse_unit
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, Issue

_CONTEXT = Context(prec=40, traps=[])


class MeasuredUnit(NamedTuple):
    """A unit as a Quantity names it; `display` is what people read."""

    system: str | None
    code: str | None
    display: str | None

    @property
    def ucum(self) -> Unit | None:
        return parse_unit(self.code) if self.system == UCUM and self.code else None

    def is_same(self, other: "MeasuredUnit") -> bool:
        if self.code is None and other.code is None:
            return self.display == other.display
        return self[:2] == other[:2]

    def quantity(self, value: Decimal) -> Resource:
        """`value` in this unit."""
        named = {"unit": self.display or self.code, "system": self.system, "code": self.code}
        return {"value": value, **{name: text for name, text in named.items() if text}}

    def squared(self) -> "MeasuredUnit":
        """The unit of a variance; as a text alone where UCUM has no code for it."""
        code = f"{self.code}.{self.code}"
        if self.ucum is not None and parse_unit(code) is not None:
            return MeasuredUnit(UCUM, code, code)
        name = self.display or self.code
        return MeasuredUnit(None, None, f"({name})2" if name else None)


class Measurements(NamedTuple):
    """Values in `unit`. `total` counts those without a value too; `concept` is the code."""

    values: tuple[Decimal, ...]
    unit: MeasuredUnit | None
    total: int
    concept: Resource | None


def measure(observations: Iterable[Resource], system: str | None, code: str) -> Measurements:
    """The measurements of `code`; `system` None is any, "" is none.

    Raises:
        InvalidRequest: they are in units that do not convert into each other.
    """
    values: list[Decimal] = []
    unit: MeasuredUnit | None = None
    concept: Resource | None = None
    total = 0
    for holder in _holders(observations, system, code):
        total += 1
        concept = concept or holder["code"]
        quantity = holder.get("valueQuantity")
        # "< 5" is a measurement, but not a number that could be added to others.
        if not isinstance(quantity, dict) or "comparator" in quantity or "value" not in quantity:
            continue
        own = MeasuredUnit(quantity.get("system"), quantity.get("code"), quantity.get("unit"))
        value = Decimal(quantity["value"])
        if unit is None:
            unit = own
        values.append(value if own.is_same(unit) else convert(value, own, unit))
    return Measurements(tuple(values), unit, total, concept)


def _holders(
    observations: Iterable[Resource], system: str | None, code: str
) -> Iterator[dict[str, Any]]:
    for observation in observations:
        if _has(observation, system, code):
            yield observation
        for component in observation.get("component", ()):
            if _has(component, system, code):
                yield component


def _has(holder: dict[str, Any], system: str | None, code: str) -> bool:
    return any(
        coding.get("code") == code and system in (None, coding.get("system", ""))
        for coding in holder.get("code", {}).get("coding", ())
    )


def convert(value: Decimal, own: MeasuredUnit, wanted: MeasuredUnit) -> Decimal:
    """`value` in another unit, exactly.

    Raises:
        InvalidRequest: the units do not convert into each other.
    """
    given, target = own.ucum, wanted.ucum
    if given is None or target is None or given.code != target.code:
        issue = Issue(
            "processing",
            "the measurements are in units that do not convert into each other",
            "Observation.value.ofType(Quantity).code",
        )
        raise InvalidRequest(issues=(issue,))
    canonical = _CONTEXT.subtract(given.canonical(value), target.offset)
    converted = _CONTEXT.divide(_CONTEXT.multiply(canonical, target.denominator), target.numerator)
    return converted.normalize(Context(prec=30, traps=[]))
