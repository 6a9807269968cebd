"""What an Observation measured, as the rules of monitoring see it.

What was not measured is no number: a value that is absent says nothing, HI and LO say on
which side of their limit the value lies. What came from an auxiliary device is not judged.
https://hl7.org/fhir/R4/observation.html
"""

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.assignment import Code, concept_codes, is_auxiliary, local_key
from fhir_server.core.quantity import UCUM, parse_unit
from fhir_server.core.resource_json import Resource

_COUNTS = frozenset({"final", "amended", "corrected", "preliminary"})


class Measured(NamedTuple):
    """One number: `value` in `unit`, a UCUM code.

    `comparator` is FHIR's ("<", "<=", ">=", ">"), "" for a value that is exact.
    """

    value: Decimal
    unit: str
    comparator: str


def subject_of(observation: Resource) -> ResourceKey | None:
    """The patient of this server that an Observation is about."""
    return local_key(observation.get("subject"), "Patient")


def is_judged(observation: Resource) -> bool:
    """Whether rules look at it: it counts as measured, by a medical device."""
    return observation.get("status") in _COUNTS and not is_auxiliary(observation)


def instant_of(observation: Resource, zone: tzinfo) -> int | None:
    """When it was measured, in microseconds since 1970: the start of what it is about.

    None where the time is not known.
    """
    moment = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    if moment is None:
        period = observation.get("effectivePeriod") or {}
        moment = period.get("start") or period.get("end")
    return date_range.parse(moment, zone).start if moment else None


def measured(observation: Resource) -> Iterator[tuple[tuple[Code, ...], Measured]]:
    """The numbers of an Observation, its own and those of its components, with their codes."""
    for element in (observation, *observation.get("component", ())):
        if (number := measured_in(element)) is not None:
            yield concept_codes(element.get("code")), number


def measured_in(element: Mapping[str, Any]) -> Measured | None:
    """The number of an Observation or of a component; None where it has none."""
    quantity = element.get("valueQuantity")
    if quantity is None or quantity.get("system") != UCUM or "value" not in quantity:
        return None
    value = quantity["value"]
    if not isinstance(value, Decimal):
        value = Decimal(value) if isinstance(value, int) else Decimal(str(value))
    return Measured(value, quantity.get("code", ""), quantity.get("comparator", ""))


def in_unit(value: Decimal, unit: str, wanted: str) -> Decimal | None:
    """`value` in the unit `wanted`; None where the two units are not of one kind."""
    if unit == wanted:
        return value
    have, want = parse_unit(unit), parse_unit(wanted)
    if have is None or want is None or have.code != want.code:
        return None
    return (have.canonical(value) - want.offset) * want.denominator / want.numerator
