"""The AuditEvent of a receipt: who was sent what about whom, or was not, and why.

https://hl7.org/fhir/R4/auditevent.html
"""

import hashlib
from collections.abc import Sequence

from fhir_server.core.identity import ResourceKey
from fhir_server.core.receipt import Receipt
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

STATE_SYSTEM = "https://pmp.example/fhir/CodeSystem/delivery-state"
RECEIPT_SYSTEM = "https://pmp.example/fhir/NamingSystem/delivery-receipt"
SINK_SYSTEM = "https://pmp.example/fhir/NamingSystem/delivery-sink"

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
_TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"

_OUTCOMES = {"accepted": "0", "registered": "0", "withheld": "4", "parked": "8", "rejected": "8"}
_SERVER = {"display": "FHIR server for personal medical assistants"}


def is_told(receipt: Receipt) -> bool:
    """Whether a receipt is of something that somebody may ask about: no retry, no closing."""
    return receipt.state in _OUTCOMES


def event_key(receipt: Receipt) -> ResourceKey:
    """The same for the same receipt, so that it is written once, whoever writes it."""
    name = hashlib.sha256(f"{receipt.number}/{receipt.sink}".encode()).hexdigest()
    return ResourceKey("AuditEvent", f"delivery-{name[:40]}")


def delivery_event(receipt: Receipt, patients: Sequence[str]) -> Resource:
    """The AuditEvent; `patients` are whom the versions are about, "Patient/42", each once.

    It has the receipt's digest: a copy of the event elsewhere holds the chain to it.
    """
    sink = {"identifier": {"system": SINK_SYSTEM, "value": receipt.sink}}
    return {
        "resourceType": "AuditEvent",
        "id": event_key(receipt).resource_id,
        "type": {"system": _DICOM, "code": "110106", "display": "Export"},
        "subtype": [{"system": STATE_SYSTEM, "code": receipt.state}],
        "action": "R",
        "recorded": format_instant(receipt.at),
        "outcome": _OUTCOMES[receipt.state],
        **({"outcomeDesc": receipt.detail} if receipt.detail.strip() else {}),
        "agent": [
            {"type": _role("110153", "Source Role ID"), "who": _SERVER, "requestor": True},
            {
                "type": _role("110152", "Destination Role ID"),
                "who": sink,
                "name": receipt.sink,
                "requestor": False,
            },
        ],
        "source": {"observer": _SERVER},
        "entity": [
            *(_entity({"reference": patient}, "1", "1") for patient in patients),
            *(_entity({"reference": line.reference}, "2", "4") for line in receipt.lines),
            {
                "what": {
                    "identifier": {
                        "system": RECEIPT_SYSTEM,
                        "value": f"{receipt.sink}/{receipt.number}",
                    }
                },
                "type": {"system": _TYPES, "code": "4"},
                "detail": [{"type": "digest", "valueString": receipt.digest}],
            },
        ],
    }


def _role(code: str, display: str) -> Resource:
    return {"coding": [{"system": _DICOM, "code": code, "display": display}]}


def _entity(what: Resource, kind: str, role: str) -> Resource:
    return {
        "what": what,
        "type": {"system": _TYPES, "code": kind},
        "role": {"system": _ROLES, "code": role},
    }
