"""Stage two of what goes with a reading: a device's status bits, and its clock.

https://build.fhir.org/ig/HL7/phd/ (bits enumeration, coincident time stamp)
"""

from datetime import datetime
from typing import Any

from fhir_server.core.mapping.claims import claims
from fhir_server.core.mapping.compile import ReadingSpec
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM, reading_key
from fhir_server.core.mapping.knowledge import MDC, Knowledge
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.project import (
    AUXILIARY_TAG,
    PHD_CATEGORY,
    references,
    write_based_on,
    write_effective,
)
from fhir_server.core.mapping.reading import Reading
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

_BIT_SYSTEM = "http://hl7.org/fhir/uv/phd/CodeSystem/ASN1ToHL7"
_IS_SET = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0136", "code": "Y", "display": "Yes"}
    ]
}
_CLOCK_CODE = {
    "coding": [{"system": MDC, "code": "67975", "display": "MDC_ATTR_TIME_ABS"}],
    "text": "The device's clock at the gateway's time",
}


class StatusTemplate:
    """The status that goes with one rule's readings."""

    forms = None

    def __init__(self, spec: ReadingSpec, knowledge: Knowledge, is_auxiliary: bool) -> None:
        measurement = knowledge.measurements.get(spec.reading["kind"])
        status = measurement.status if measurement else None
        self._is_auxiliary = is_auxiliary
        self._code: dict[str, Any] = {}
        self._bits: dict[str, dict[str, Any]] = {}
        if status is not None:
            self._code = {
                "coding": [{"system": MDC, "code": status.mdc}],
                "text": status.display,
            }
            for name, bit in status.bits.items():
                coding = {"system": _BIT_SYSTEM, "code": f"{status.mdc}.{bit.bit}"}
                text = bit.display or knowledge.flags[name].text
                self._bits[name] = {"coding": [coding], "text": text}

    def code(self, reading: Reading) -> dict[str, Any]:
        """The code of the Observation, without making it."""
        return self._code

    def project(self, reading: Reading, placement: Placement, issued: datetime) -> Resource:
        """The Observation of the bits that are set; `issued` is aware."""
        patient = {"reference": str(placement.patient)}
        is_auxiliary = self._is_auxiliary or placement.is_auxiliary
        resource: Resource = {
            "resourceType": "Observation",
            "meta": {"profile": claims((), (), is_auxiliary=is_auxiliary)},
        }
        if is_auxiliary:
            resource["meta"]["tag"] = [AUXILIARY_TAG]
        resource["identifier"] = _identifier(reading, placement)
        write_based_on(placement, resource)
        resource["status"] = "final"
        resource["category"] = [PHD_CATEGORY]
        resource["code"] = self._code
        resource["subject"] = patient
        write_effective(reading, resource)
        resource["issued"] = format_instant(issued)
        resource["performer"] = [patient]
        resource["device"] = {"reference": str(placement.device)}
        resource["derivedFrom"] = references(reading.derived_from, placement)
        resource["component"] = [
            {"code": self._bits[bit.name], "valueCodeableConcept": _IS_SET}
            for bit in reading.values
        ]
        return resource


class ClockTemplate:
    """What a device's clock showed when the gateway's showed something else."""

    forms = None

    def code(self, reading: Reading) -> dict[str, Any]:
        """The code of the Observation, without making it."""
        return _CLOCK_CODE

    def project(self, reading: Reading, placement: Placement, issued: datetime) -> Resource:
        """The Observation of the device, which is no patient's; `issued` is aware."""
        resource: Resource = {
            "resourceType": "Observation",
            "identifier": _identifier(reading, placement),
        }
        write_based_on(placement, resource)
        return resource | {
            "status": "final",
            "category": [PHD_CATEGORY],
            "code": _CLOCK_CODE,
            "subject": {"reference": str(placement.device)},
            "effectiveDateTime": reading.effective,
            "issued": format_instant(issued),
            "valueDateTime": reading.values[0].value,
        }


def _identifier(reading: Reading, placement: Placement) -> list[dict[str, str]]:
    return [{"system": IDENTIFIER_SYSTEM, "value": reading_key(reading, placement)}]
