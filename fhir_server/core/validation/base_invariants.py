"""The invariants of R4 that are checked on every write.

https://hl7.org/fhir/R4/conformance-rules.html#constraints. Those about references,
contained resources and empty elements are part of `explain`. Rules of a profile do not
belong here.
"""

from collections.abc import Callable, Iterable

from fhir_server.core.resource_json import Resource
from fhir_server.core.validation import bundle_invariants, period
from fhir_server.core.validation.invariant import (
    NO_GUARD,
    Invariant,
    Invariants,
    excludes,
    has,
    needs,
    needs_any,
    never,
    never_together,
    not_negative,
)
from fhir_server.core.validation.type_rules import TypeRules


def _codings(concept: object) -> set[tuple[str | None, str]]:
    if not isinstance(concept, dict):
        return set()
    codings = concept.get("coding")
    return {
        (coding.get("system"), coding["code"])
        for coding in (codings if isinstance(codings, list) else ())
        if isinstance(coding, dict)
        and isinstance(coding.get("code"), str)
        and isinstance(coding.get("system", ""), str)
    }


def _no_value_beside_the_same_component(names: tuple[str, ...]) -> Callable[[Resource], bool]:
    def holds(observation: Resource) -> bool:
        components = observation.get("component")
        if not isinstance(components, list) or not has(observation, names):
            return True
        own = _codings(observation.get("code"))
        return not any(own & _codings(c.get("code")) for c in components if isinstance(c, dict))

    return holds


def _at_least_zero(name: str) -> Callable[[Resource], bool]:
    def holds(value: Resource) -> bool:
        number = value.get(name, 0)
        # A wrong type is another fault, already told.
        return isinstance(number, str | bool | list | dict) or number is None or number >= 0

    return holds


_MEALS = frozenset({"C", "CM", "CD", "CV"})


def _offset_fits_when(repeat: Resource) -> bool:
    when = repeat.get("when")
    if not has(repeat, ("offset",)):
        return True
    return isinstance(when, list) and bool(when) and not _MEALS.intersection(map(str, when))


def _range_in_order(value: Resource) -> bool:
    low, high = value.get("low"), value.get("high")
    if not isinstance(low, dict) or not isinstance(high, dict):
        return True
    if any(low.get(k) != high.get(k) for k in ("system", "code", "unit")):
        return True
    try:
        return bool(low["value"] <= high["value"])
    except (KeyError, TypeError):
        return True


def build(rules: TypeRules) -> Invariants:
    """The table, for these types."""
    values = rules["Observation"].json_names("value")
    details = rules["Goal.target"].json_names("detail")
    extension_values = rules["Extension"].json_names("value")
    return Invariants(
        (
            needs("qty-3", "Quantity", "a code needs a system", ("code",), "system"),
            *(
                needs("qty-3", name, "a code needs a system", ("code",), "system")
                for name in ("Age", "Count", "Distance", "Duration")
            ),
            Invariant(
                "ext-1",
                "Extension",
                "must have a value or extensions, not both",
                lambda extension: (
                    has(extension, ("extension",)) != has(extension, extension_values)
                ),
                NO_GUARD,
            ),
            Invariant(
                "per-1",
                "Period",
                "the start must not be after the end",
                period.is_in_order,
                never_together(("start",), ("end",)),
            ),
            Invariant(
                "rng-2",
                "Range",
                "the low must not be over the high",
                _range_in_order,
                never_together(("low",), ("high",)),
            ),
            needs(
                "rat-1", "Ratio", "a numerator needs a denominator", ("numerator",), "denominator"
            ),
            needs(
                "rat-1", "Ratio", "a denominator needs a numerator", ("denominator",), "numerator"
            ),
            needs("att-1", "Attachment", "data need a contentType", ("data",), "contentType"),
            needs("cpt-2", "ContactPoint", "a value needs a system", ("value",), "system"),
            *_timing(),
            needs_any(
                "obs-3",
                "Observation.referenceRange",
                "needs at least a low, a high or a text",
                ("low", "high", "text"),
            ),
            excludes(
                "obs-6",
                "Observation",
                "dataAbsentReason must not be there beside a value",
                ("dataAbsentReason",),
                values,
            ),
            Invariant(
                "obs-7",
                "Observation",
                "must have no value where a component has the same code",
                _no_value_beside_the_same_component(values),
                never_together(("component",), values),
            ),
            needs_any(
                "pat-1",
                "Patient.contact",
                "needs a name, a telecom, an address or an organization",
                ("name", "telecom", "address", "organization"),
            ),
            excludes(
                "cpl-3",
                "CarePlan.activity",
                "must have a detail or a reference, not both",
                ("detail",),
                ("reference",),
            ),
            needs("gol-1", "Goal.target", "a detail needs a measure", details, "measure"),
            *bundle_invariants.table(),
        )
    )


def _timing() -> Iterable[Invariant]:
    repeat = "Timing.repeat"
    yield needs("tim-1", repeat, "a duration needs a unit", ("duration",), "durationUnit")
    yield needs("tim-2", repeat, "a period needs a unit", ("period",), "periodUnit")
    for key, name in (("tim-4", "duration"), ("tim-5", "period")):
        yield Invariant(
            key,
            repeat,
            f"the {name} must not be negative",
            _at_least_zero(name),
            not_negative(name),
        )
    yield needs("tim-6", repeat, "a periodMax needs a period", ("periodMax",), "period")
    yield needs("tim-7", repeat, "a durationMax needs a duration", ("durationMax",), "duration")
    yield needs("tim-8", repeat, "a countMax needs a count", ("countMax",), "count")
    yield Invariant(
        "tim-9",
        repeat,
        "an offset needs a when that is not the meal itself",
        _offset_fits_when,
        never("offset", "_offset"),
    )
    yield excludes(
        "tim-10", repeat, "a timeOfDay must not be there beside a when", ("timeOfDay",), ("when",)
    )
