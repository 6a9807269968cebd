"""A checked mapping document becomes rules; what `check` lets pass compiles."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.mapping.clock import compile_clock
from fhir_server.core.mapping.expression import (
    Expression,
    compile_condition,
    compile_expression,
    plain_path,
)
from fhir_server.core.mapping.knowledge import Knowledge, Owner, Quality
from fhir_server.core.mapping.linked import StatusRule
from fhir_server.core.mapping.normalize import Amount, Special, word
from fhir_server.core.mapping.reading import Ignored
from fhir_server.core.mapping.rule import (
    Condition,
    DurationRule,
    IdentifierRule,
    IgnoreRule,
    Name,
    ReadingRule,
    RecordRule,
    ValueRule,
)
from fhir_server.core.mapping.samples import SamplesRule
from fhir_server.core.mapping.timing import TimeRule

_SECONDS = {
    "milliseconds": Decimal("0.001"),
    "seconds": Decimal(1),
    "minutes": Decimal(60),
    "hours": Decimal(3600),
}

Spec = Mapping[str, Any]


class ReadingSpec(NamedTuple):
    """A reading of the document with the place it has among all readings of the mapping."""

    number: int
    reading: Spec
    record: Spec


def reading_specs(document: Spec) -> tuple[ReadingSpec, ...]:
    """Every reading of the document, in the order that numbers the rules."""
    pairs = [(reading, record) for record in document["records"] for reading in record["readings"]]
    return tuple(ReadingSpec(i, reading, record) for i, (reading, record) in enumerate(pairs))


def compile_records(document: Spec, knowledge: Knowledge, time_zone: str) -> tuple[RecordRule, ...]:
    """The record rules of a document that `check` found no fault in."""
    numbers = {id(spec.reading): spec.number for spec in reading_specs(document)}
    zone = document.get("zone", time_zone)
    return tuple(
        _compile_record(record, document, knowledge, zone, numbers)
        for record in document["records"]
    )


def compile_ignore(spec: Spec) -> tuple[IgnoreRule, ...]:
    return tuple(
        IgnoreRule(compile_condition(rule["when"]), Ignored(rule["reason"]))
        for rule in spec.get("ignore", ())
    )


def stored_units(value: Spec) -> tuple[str, ...]:
    """The UCUM units a value may be stored in, each once."""
    if "store" in value:
        return (value["store"],)
    return measured_units(value)


def measured_units(value: Spec) -> tuple[str, ...]:
    """The UCUM units a value may come in, each once."""
    unit = value.get("unit", "")
    if isinstance(unit, str):
        return (unit,) if unit else ()
    return tuple(dict.fromkeys(str(u) for u in unit["is"].values()))


def _compile_record(
    record: Spec,
    document: Spec,
    knowledge: Knowledge,
    zone: str,
    numbers: Mapping[int, int],
) -> RecordRule:
    time = record["time"]
    duration = record.get("duration")
    each = record.get("each")
    return RecordRule(
        when=compile_condition(record["when"]) if "when" in record else None,
        each=compile_expression(each) if each else None,
        each_path=plain_path(each) if each else None,
        time=TimeRule(
            compile_expression(time["at"]),
            compile_clock(time["format"], time.get("zone", zone), time.get("offset-unit", "")),
            _optional(time, "offset"),
            _optional(time, "now"),
            _optional_condition(time, "fault"),
            time.get("live", False),
        ),
        readings=tuple(
            _compile_reading(reading, numbers[id(reading)], record, knowledge, len(numbers))
            for reading in record["readings"]
        ),
        ignore=compile_ignore(record),
        duration=DurationRule(compile_expression(duration["at"]), _SECONDS[duration["unit"]])
        if duration
        else None,
        device=_compile_shared("device", record, document),
        patient=_compile_shared("patient", record, document),
        note=compile_expression(record["note"]) if "note" in record else None,
        flags=_compile_names(record.get("flags", ())),
        supplements=_compile_names(record.get("supplements", ())),
        ambiguous=_optional_condition(record, "ambiguous"),
        focus=_optional(record, "focus"),
        clock_number=2 * len(numbers),
    )


def _compile_reading(
    spec: Spec, number: int, record: Spec, knowledge: Knowledge, count: int
) -> ReadingRule:
    kind = spec["kind"]
    value = spec.get("value")
    measurement = knowledge.measurements.get(kind)
    return ReadingRule(
        number=number,
        kind=kind,
        when=compile_condition(spec["when"]) if "when" in spec else None,
        value=_compile_value("value", value, f"{kind} ({value['at']})", kind, "", knowledge)
        if value
        else None,
        components=tuple(
            _compile_value(name, part, f"{kind}.{name} ({part['at']})", kind, name, knowledge)
            for name, part in spec.get("components", {}).items()
        ),
        flags=_compile_names(spec.get("flags", ())),
        status=_compile_status(spec, record, knowledge, count + number),
        derived_from=spec.get("derived-from", ""),
        ascending=measurement.ascending if measurement else (),
    )


def _compile_status(
    spec: Spec, record: Spec, knowledge: Knowledge, number: int
) -> StatusRule | None:
    measurement = knowledge.measurements.get(spec["kind"])
    if measurement is None or measurement.status is None:
        return None
    told = {flag["name"] for flag in (*record.get("flags", ()), *spec.get("flags", ()))}
    names = told & set(measurement.status.bits)
    return StatusRule(number, frozenset(names)) if names else None


def _compile_value(
    name: str, spec: Spec, where: str, kind: str, component: str, knowledge: Knowledge
) -> ValueRule:
    quality = knowledge.quality(Owner(kind, component))
    is_required = quality is not None and quality.required and bool(component)
    find = compile_expression(spec["at"])
    if "samples" in spec:
        return ValueRule(name, where, find, None, samples=_compile_samples(spec))
    if "is" in spec or "unit" not in spec:
        words = {text: word(ours) for text, ours in spec.get("is", {}).items()}
        return ValueRule(name, where, find, None, words, is_required)
    return ValueRule(
        name,
        where,
        find,
        _compile_amount(name, spec, quality, knowledge),
        None,
        is_required,
        _optional(spec, "comparator"),
        _optional(spec, "absent"),
    )


def _compile_samples(spec: Spec) -> SamplesRule:
    return SamplesRule(
        spec["unit"],
        compile_expression(spec["samples"]["period"]),
        _placeholders(spec.get("placeholder")),
    )


def _compile_amount(name: str, spec: Spec, quality: Quality | None, knowledge: Knowledge) -> Amount:
    unit = spec["unit"]
    is_chosen = not isinstance(unit, str)
    store = spec.get("store")
    scale = spec.get("scale")
    # A conversion from a unit to itself is none; `check` made sure that all others exist.
    conversions = {
        source: found
        for source in measured_units(spec)
        if store and source != store and (found := knowledge.conversion(source, store))
    }
    return Amount(
        name=name,
        unit="" if is_chosen else unit,
        unit_of=compile_expression(unit["at"]) if is_chosen else None,
        units={text: str(ucum) for text, ucum in unit["is"].items()} if is_chosen else {},
        conversions=conversions,
        scale=Decimal(scale) if scale is not None else None,
        exponent=_optional(spec, "exponent"),
        placeholders=_placeholders(spec.get("placeholder")),
        specials={
            text: Special(
                found.get("comparator", ""),
                Decimal(found["value"]) if "value" in found else None,
                found.get("absent", ""),
            )
            for text, found in spec.get("special", {}).items()
        },
        minimum=quality.minimum if quality else None,
        maximum=quality.maximum if quality else None,
        plausible=quality.plausible if quality else {},
    )


def _placeholders(spec: Any) -> frozenset[Decimal | str]:
    if spec is None:
        return frozenset()
    return frozenset(
        Decimal(value)
        if isinstance(value, int | Decimal) and not isinstance(value, bool)
        else word(value)
        for value in (spec if isinstance(spec, list) else [spec])
    )


def _compile_shared(name: str, record: Spec, document: Spec) -> IdentifierRule | None:
    """The record's own rule, else the file's, which looks into the whole payload."""
    rule = _compile_identifier(record.get(name, document.get(name)))
    if rule is None or name in record or "each" not in record:
        return rule
    return rule._replace(
        value=_of_payload(rule.value),
        system_at=rule.system_at and _of_payload(rule.system_at),
    )


def _of_payload(find: Expression) -> Expression:
    return lambda record, payload: find(payload, payload)


def _compile_identifier(spec: Spec | None) -> IdentifierRule | None:
    if spec is None:
        return None
    system_at = spec.get("system-at")
    return IdentifierRule(
        compile_expression(spec["value"]),
        spec.get("system"),
        compile_expression(system_at) if system_at else None,
    )


def _optional(spec: Spec, name: str) -> Expression | None:
    return compile_expression(spec[name]) if name in spec else None


def _optional_condition(spec: Spec, name: str) -> Condition | None:
    return compile_condition(spec[name]) if name in spec else None


def _compile_names(specs: Any) -> tuple[Name, ...]:
    return tuple(Name(spec["name"], compile_condition(spec["when"])) for spec in specs)
