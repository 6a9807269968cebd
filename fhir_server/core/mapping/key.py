"""A reading's key, and what decides whether a repeat of the key says the same.

Key: the Device's identifier, patient, kind, the device's own time stamp uncorrected,
duration, supplemental codes, and what of the patient was measured (a fetus). Every part is
written with its length in front, so no two different keys run together into one text; the
identifier is that text's digest, so it carries neither a serial number nor a patient.
"""

from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from fhir_server.core import resource_json
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Reading
from fhir_server.core.resource_json import Resource

IDENTIFIER_SYSTEM = "https://pmp.example/fhir/NamingSystem/reading"
CLOCK_KIND = "device-clock"

_DIGEST_BYTES = 20


def reading_identifier(reading: Reading, placement: Placement) -> tuple[str, str]:
    """System and value of the Observation's identifier, without making the Observation."""
    return IDENTIFIER_SYSTEM, reading_key(reading, placement)


def reading_key(reading: Reading, placement: Placement) -> str:
    """The digest of the reading's key, as lower-case hex."""
    text = canonical_key(reading, placement)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def canonical_key(reading: Reading, placement: Placement) -> str:
    """All parts of the key as one text, different for different keys."""
    system, value = placement.device_identifier
    # What a device's clock showed is the device's, whoever holds it.
    subject = placement.device if reading.kind == CLOCK_KIND else placement.patient
    parts = [
        "" if system is None else "|" + system,
        value,
        subject[0],
        subject[1],
        reading.kind,
        reading.stamp,
        _plain(reading.duration) if reading.duration else "0",
    ]
    if reading.supplements:
        parts += sorted(set(reading.supplements))
    if reading.focus:
        # A supplement's name has no such sign.
        parts.append("=" + reading.focus)
    return "".join([f"{len(part)}:{part}" for part in parts])


def measured_signature(resource: Resource) -> bytes:
    """What was measured, as bytes that are equal when it is the same.

    Values, units, comparators, absences, interpretations and components count; 120 and
    120.0 are the same value. Notes, references, times and the method of entry do not.
    """
    components = sorted(
        resource_json.format_sorted([_codes(part.get("code")), *_value(part)])
        for part in resource.get("component", ())
    )
    return resource_json.format_sorted(
        [
            _codes(resource.get("code")),
            *_value(resource),
            sorted(
                resource_json.format_sorted(_codes(c)).decode()
                for c in resource.get("interpretation", ())
            ),
            _codes(resource.get("bodySite")),
            [part.decode() for part in components],
        ]
    )


def _value(element: Mapping[str, Any]) -> list[Any]:
    return [
        {name: _measured(value) for name, value in element.items() if name.startswith("value")},
        _codes(element.get("dataAbsentReason")),
    ]


def _measured(value: Any) -> Any:
    if not isinstance(value, dict):
        return _comparable(value)
    if "coding" in value or "text" in value:
        return _codes(value)
    return {
        name: _comparable(part)
        for name, part in value.items()
        if name not in ("extension", "unit", "id")
    }


def _comparable(value: Any) -> Any:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _plain(Decimal(value))
    return value


def _codes(concept: Mapping[str, Any] | None) -> Any:
    """The codings of a CodeableConcept in order; its text where it has none."""
    if not concept:
        return None
    codings = concept.get("coding")
    if not codings:
        return concept.get("text")
    return sorted([c.get("system", ""), c.get("code", "")] for c in codings)


def _plain(number: Decimal) -> str:
    """One spelling for equal numbers: no exponent, no trailing zeros."""
    text = format(number, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
