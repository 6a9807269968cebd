"""The `enrolment` section of a checked mapping document becomes its rule."""

from collections.abc import Mapping
from typing import Any

from fhir_server.core.mapping.enrolment import (
    ActivityRule,
    DeviceRule,
    EnrolmentRule,
    IdentifiersRule,
    LimitsRule,
    PersonRule,
    Text,
)
from fhir_server.core.mapping.expression import Expression, compile_condition, compile_expression
from fhir_server.core.mapping.knowledge import Knowledge
from fhir_server.core.mapping.normalize import word
from fhir_server.core.mapping.rule import plain_text

Spec = Mapping[str, Any]


def compile_enrolment(spec: Spec, knowledge: Knowledge) -> EnrolmentRule:
    """The rule of an `enrolment` section that `check` found no fault in."""
    physician = spec.get("physician")
    activities = spec.get("activities")
    limits = spec.get("limits")
    devices = spec["devices"]
    return EnrolmentRule(
        identifier=_compile_identifiers(spec["identifier"]),
        plan=_compile_text(spec["plan"]),
        start=_compile_text(spec["start"]),
        end=_compile_text(spec.get("end")),
        title=_compile_text(spec.get("title")),
        note=_compile_text(spec.get("note")),
        patient=_compile_person("patient", spec["patient"]),
        physician=_compile_person("physician", physician) if physician else None,
        devices=DeviceRule(
            compile_expression(devices["each"]),
            _compile_identifiers(devices["identifiers"]),
            _compile_text(devices["kind"]),
            _compile_text(devices.get("name")),
            _compile_text(devices.get("manufacturer")),
            _compile_text(devices.get("model")),
            compile_condition(devices["auxiliary"]) if "auxiliary" in devices else _never,
            knowledge,
        ),
        activities=ActivityRule(
            compile_expression(activities["each"]),
            _compile_text(activities["kind"]),
            _compile_text(activities.get("text")),
            _compile_optional(activities.get("frequency")),
            _compile_optional(activities.get("period")),
            _compile_text(activities.get("period-unit")),
            _compile_optional(activities.get("times-of-day")),
            _compile_optional(activities.get("when")),
            _compile_optional(activities.get("days-of-week")),
            knowledge,
        )
        if activities
        else None,
        limits=LimitsRule(
            compile_expression(limits["each"]),
            _compile_text(limits["measure"]),
            _compile_optional(limits.get("low")),
            _compile_optional(limits.get("high")),
            _compile_text(limits["unit"]),
            knowledge,
        )
        if limits
        else None,
    )


def _compile_person(where: str, spec: Spec) -> PersonRule:
    return PersonRule(
        where,
        _compile_identifiers(spec["identifiers"]),
        _compile_text(spec.get("family")),
        _compile_optional(spec.get("given")),
        _compile_text(spec.get("birth-date")),
        _compile_text(spec.get("gender")),
        _compile_text(spec.get("phone")),
    )


def _compile_identifiers(spec: Spec) -> IdentifiersRule:
    return IdentifiersRule(
        _compile_optional(spec.get("each")),
        compile_expression(spec["value"]),
        spec.get("system", ""),
        _compile_optional(spec.get("system-at")),
    )


def _compile_optional(text: str | None) -> Expression | None:
    return compile_expression(text) if text else None


def _compile_text(spec: str | Spec | None) -> Text:
    """A text where an expression finds it, by a table of words if there is one.

    A word that the table lacks stays as it is: what reads it says that it is unknown.
    """
    if spec is None:
        return lambda record, payload: ""
    if isinstance(spec, str):
        find = compile_expression(spec)
        return lambda record, payload: plain_text(find(record, payload)).strip()
    chosen = compile_expression(spec["at"])
    words = {text: word(ours) for text, ours in spec["is"].items()}

    def translate(record: Any, payload: Any) -> str:
        found = word(chosen(record, payload)).strip()
        return words.get(found, found)

    return translate


def _never(record: Any, payload: Any) -> bool:
    return False
