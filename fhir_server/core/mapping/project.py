"""Stage two: a reading and its place become an Observation, by a template made at start-up.

All that a rule always writes is built once and shared by its Observations: treat what
`Template.project` returns as frozen, or copy it first.
https://hl7.org/fhir/R4/observation.html, https://hl7.org/fhir/R4/observation-vitalsigns.html
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from fhir_server.core.mapping.claims import claims
from fhir_server.core.mapping.clock import format_datetime
from fhir_server.core.mapping.compile import ReadingSpec, stored_units
from fhir_server.core.mapping.forms import Forms
from fhir_server.core.mapping.key import (
    IDENTIFIER_SYSTEM,
    measured_signature,
    reading_identifier,
    reading_key,
)
from fhir_server.core.mapping.knowledge import (
    MDC,
    UCUM,
    Flag,
    Knowledge,
    Measurement,
    Owner,
    Quality,
    coding_json,
    mdc_coding,
)
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.prescription import Coding
from fhir_server.core.mapping.reading import Measured, Reading, Samples
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

__all__ = ["Template", "absent_reason", "measured_signature", "reading_identifier"]

OURS = "https://pmp.example/fhir/"
MEASUREMENT_SYSTEM = OURS + "CodeSystem/measurement"
FOCUS_SYSTEM = OURS + "NamingSystem/focus"
FLAG_SYSTEM = OURS + "CodeSystem/reading-flag"
ORIGINAL_QUANTITY = OURS + "StructureDefinition/original-quantity"
AUXILIARY_TAG = {"system": OURS + "CodeSystem/device-standing", "code": "auxiliary"}

_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
PHD_CATEGORY = {
    "coding": [
        {
            "system": "http://hl7.org/fhir/uv/phd/CodeSystem/PhdObservationCategories",
            "code": "phd",
            "display": "PHD generated Observation",
        }
    ]
}
_QUESTIONABLE = {
    "coding": [
        {
            "system": "http://hl7.org/fhir/uv/pocd/CodeSystem/measurement-status",
            "code": "questionable",
            "display": "Questionable",
        }
    ]
}
_ABSENT_SYSTEM = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_UNKNOWN_TIME = {
    "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
    "valueCode": "unknown",
}
_SUPPLEMENTAL_TYPE = {
    "coding": [{"system": MDC, "code": "68193", "display": "MDC_ATTR_SUPPL_TYPES"}]
}
# FHIR strings hold no control characters but tab, carriage return and line feed.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

Concept = dict[str, Any]


class ValueTemplate:
    """How one value is written: the code for its unit, the unit's spelling, known words."""

    def __init__(
        self, codes: Mapping[str, Concept], units: Mapping[str, str], words: Mapping[str, Concept]
    ) -> None:
        self._codes = codes
        self._units = units
        self._words = words
        self._default = codes.get("") or next(iter(codes.values()))

    def code(self, measured: Measured) -> Concept:
        """The code that fits the unit; of an absent value, the first of the rule's."""
        return self._codes.get(measured.unit, self._default)

    def is_known_word(self, measured: Measured) -> bool:
        """Whether the value is a word of the rule, and not just what the device said."""
        return measured.value in self._words

    def write(self, measured: Measured, element: dict[str, Any]) -> None:
        """Add value[x], or dataAbsentReason, to an Observation or one of its components."""
        value = measured.value
        if value is None:
            element["dataAbsentReason"] = absent_reason(measured.absent or "unknown")
        elif type(value) is Decimal:
            element["valueQuantity"] = self._quantity(measured, value)
        elif type(value) is str:
            known = self._words.get(value)
            element["valueCodeableConcept"] = known or {"text": _CONTROL.sub(" ", value)}
        elif type(value) is Samples:
            element["valueSampledData"] = self._sampled(measured, value)
        else:
            element["valueBoolean"] = value

    def _quantity(self, measured: Measured, value: Decimal) -> dict[str, Any]:
        unit = measured.unit
        quantity: dict[str, Any] = {}
        if measured.original is not None:
            quantity["extension"] = [
                {
                    "url": ORIGINAL_QUANTITY,
                    "valueQuantity": {
                        "value": measured.original,
                        "unit": self._units.get(measured.original_unit, measured.original_unit),
                        "system": UCUM,
                        "code": measured.original_unit,
                    },
                }
            ]
        quantity["value"] = value
        if measured.comparator:
            quantity["comparator"] = measured.comparator
        quantity["unit"] = self._units.get(unit, unit)
        quantity["system"] = UCUM
        quantity["code"] = unit
        return quantity

    def _sampled(self, measured: Measured, samples: Samples) -> dict[str, Any]:
        unit = measured.unit
        origin = {
            "value": Decimal(0),
            "unit": self._units.get(unit, unit),
            "system": UCUM,
            "code": unit,
        }
        return {
            "origin": origin,
            "period": samples.period,
            "dimensions": 1,
            "data": samples.data,
        }


class Template:
    """One reading rule's Observation, all but what differs from reading to reading."""

    def __init__(
        self,
        spec: ReadingSpec,
        knowledge: Knowledge,
        is_personal: bool,
        is_auxiliary: bool = False,
    ) -> None:
        reading = spec.reading
        self.kind: str = reading["kind"]
        measurement = knowledge.measurements.get(self.kind)
        known = measurement.profiles if measurement else ()
        stated = reading.get("profile", ())
        self._meta: Concept = {"profile": claims(known, stated, is_auxiliary=False)}
        self._auxiliary_meta: Concept = {
            "profile": claims(known, stated, is_auxiliary=True),
            "tag": [AUXILIARY_TAG],
        }
        if is_auxiliary:
            self._meta = self._auxiliary_meta
        self._category = _categories(reading, measurement, is_personal)
        self._value = _value_template(reading, self.kind, "", reading.get("value"), knowledge)
        self._is_panel = "value" not in reading
        self._components = {
            name: _value_template(reading, self.kind, name, part, knowledge)
            for name, part in reading.get("components", {}).items()
        }
        self._body_site = _concept(reading.get("body-site", spec.record.get("body-site")))
        self._method = _concept(reading.get("method"))
        self._flags = {
            name: (flag, _flag_concept(name, flag)) for name, flag in knowledge.flags.items()
        }
        self._supplements = {
            supplement["name"]: _concept(supplement["code"])
            for supplement in spec.record.get("supplements", ())
        }
        self.forms: Forms | None = Forms(self._is_panel, self._is_known_word)

    def code(self, reading: Reading) -> Concept:
        """The code of the Observation, without making it."""
        return self._value.code(_PANEL if self._is_panel else reading.values[0])

    def project(self, reading: Reading, placement: Placement, issued: datetime) -> Resource:
        """The Observation; `issued` is aware."""
        patient = {"reference": f"{placement.patient[0]}/{placement.patient[1]}"}
        values = reading.values
        main = None if self._is_panel else values[0]
        resource: Resource = {"resourceType": "Observation"}
        resource["meta"] = self._auxiliary_meta if placement.is_auxiliary else self._meta
        resource["identifier"] = [
            {"system": IDENTIFIER_SYSTEM, "value": reading_key(reading, placement)}
        ]
        write_based_on(placement, resource)
        resource["status"] = "final"
        if self._category:
            resource["category"] = self._category
        resource["code"] = self.code(reading)
        resource["subject"] = patient
        if reading.focus:
            resource["focus"] = [_focus(reading, placement)]
        write_effective(reading, resource)
        resource["issued"] = format_instant(issued)
        resource["performer"] = [patient]
        if main is not None:
            self._value.write(main, resource)
        if reading.flags:
            self._write_flags(reading.flags, resource)
        if reading.note:
            resource["note"] = [{"text": _CONTROL.sub(" ", reading.note)}]
        if self._body_site:
            resource["bodySite"] = self._body_site
        if self._method and "method" not in resource:
            resource["method"] = self._method
        resource["device"] = {"reference": f"{placement.device[0]}/{placement.device[1]}"}
        if reading.derived_from:
            resource["derivedFrom"] = references(reading.derived_from, placement)
        self._write_components(reading, values if main is None else values[1:], resource)
        return resource

    def _is_known_word(self, measured: Measured) -> bool:
        return self._components.get(measured.name, self._value).is_known_word(measured)

    def _write_components(
        self, reading: Reading, values: tuple[Measured, ...], resource: Resource
    ) -> None:
        components: list[dict[str, Any]] = []
        for measured in values:
            template = self._components[measured.name]
            component: dict[str, Any] = {"code": template.code(measured)}
            template.write(measured, component)
            components.append(component)
        for name in reading.supplements:
            components.append(
                {"code": _SUPPLEMENTAL_TYPE, "valueCodeableConcept": self._supplements[name]}
            )
        if components:
            resource["component"] = components

    def _write_flags(self, flags: tuple[str, ...], resource: Resource) -> None:
        interpretation: list[Concept] = []
        is_questionable = False
        for name in flags:
            flag, concept = self._flags[name]
            is_questionable = is_questionable or flag.questionable
            if flag.element == "method":
                resource["method"] = concept
            else:
                interpretation.append(concept)
        if is_questionable:
            interpretation.append(_QUESTIONABLE)
        if interpretation:
            resource["interpretation"] = interpretation


_PANEL = Measured("", None)


def absent_reason(code: str) -> Concept:
    """A dataAbsentReason. https://hl7.org/fhir/R4/valueset-data-absent-reason.html"""
    return {"coding": [{"system": _ABSENT_SYSTEM, "code": code}]}


def references(readings: Iterable[Reading], placement: Placement) -> list[Concept]:
    """References to Observations by the identifier they have, whenever they are stored."""
    return [
        {
            "type": "Observation",
            "identifier": {
                "system": IDENTIFIER_SYSTEM,
                "value": reading_key(reading, placement),
            },
        }
        for reading in readings
    ]


def write_based_on(placement: Placement, resource: Resource) -> None:
    """The plans that asked for it, if any did."""
    if placement.based_on:
        resource["basedOn"] = [{"reference": str(plan)} for plan in placement.based_on]


def write_effective(reading: Reading, resource: Resource) -> None:
    """When it was measured; of a device whose clock was at fault, that nobody knows."""
    if not reading.effective:
        resource["_effectiveDateTime"] = {"extension": [_UNKNOWN_TIME]}
    elif reading.duration:
        resource["effectivePeriod"] = _period(reading)
    else:
        resource["effectiveDateTime"] = reading.effective


def _focus(reading: Reading, placement: Placement) -> Concept:
    name = _CONTROL.sub(" ", reading.focus)
    value = f"{placement.patient[1]}/{name}"
    return {"identifier": {"system": FOCUS_SYSTEM, "value": value}, "display": name}


def _period(reading: Reading) -> dict[str, str]:
    start = datetime.fromisoformat(reading.effective)
    length = timedelta(microseconds=int(reading.duration * 1_000_000))
    return {"start": reading.effective, "end": format_datetime(start + length)}


def _categories(
    reading: Mapping[str, Any], measurement: Measurement | None, is_personal: bool
) -> list[Concept]:
    code = measurement.category if measurement else reading.get("category")
    found: list[Concept] = [{"coding": [{"system": _CATEGORY, "code": code}]}] if code else []
    return [*found, PHD_CATEGORY] if is_personal else found


def _value_template(
    reading: Mapping[str, Any],
    kind: str,
    component: str,
    spec: Mapping[str, Any] | None,
    knowledge: Knowledge,
) -> ValueTemplate:
    owner = Owner(kind, component)
    quality = knowledge.quality(owner)
    stated = spec if component and spec else reading
    units = stored_units(spec) if spec else ()
    if quality is None:
        coding = reading.get("code")
        local: Concept = {"text": component or kind}
        if coding and not component:
            local = {"coding": [coding], "text": coding.get("display", kind)}
        codes = {"": local}
    else:
        mdc = stated.get("mdc")
        codes = {unit: _code_concept(quality, owner, unit, mdc) for unit in units or ("",)}
    words = {
        name: _word_concept(value.display, value.mdc)
        for name, value in (quality.values if quality else {}).items()
    }
    return ValueTemplate(codes, knowledge.units, words)


def _code_concept(quality: Quality, owner: Owner, unit: str, mdc: int | str | None) -> Concept:
    option = quality.code_for(unit)
    codings = list(option.codings()) if option else []
    if mdc is None and len(quality.mdc) == 1:
        mdc = next(iter(quality.mdc))
    if mdc is not None and mdc != "none":
        codings.append(mdc_coding(quality.mdc, str(mdc)))
    if not codings:
        # No standard has a code that fits: ours, so that it can be searched for.
        codings.append(Coding(MEASUREMENT_SYSTEM, str(owner), quality.display))
    return _codeable(codings, quality.display)


def _word_concept(display: str, mdc: Mapping[str, str]) -> Concept:
    return _codeable([mdc_coding(mdc, code) for code in mdc], display)


def _codeable(codings: list[Coding], text: str) -> Concept:
    concept: Concept = {"coding": [coding_json(c) for c in codings]} if codings else {}
    concept["text"] = text
    return concept


def _flag_concept(name: str, flag: Flag) -> Concept:
    coding = Coding(flag.system or FLAG_SYSTEM, flag.code or name, flag.display)
    return {"coding": [coding_json(coding)], "text": flag.text}


def _concept(coding: Mapping[str, Any] | None) -> Concept | None:
    if coding is None:
        return None
    concept: Concept = {"coding": [dict(coding)]}
    if "display" in coding:
        concept["text"] = coding["display"]
    return concept
