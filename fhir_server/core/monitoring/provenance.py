"""The Provenance of readings that were moved: which, why, and by whose statement.

https://hl7.org/fhir/R4/provenance.html
"""

from collections.abc import Sequence
from datetime import datetime

from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

_AGENT = {
    "type": {
        "coding": [
            {
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                "code": "assembler",
            }
        ]
    },
    "who": {"display": "FHIR server: placing readings again"},
}
_ACTIVITY = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
            "code": "UPDATE",
        }
    ],
    "text": "Placed again",
}
_REASON = {"text": "The assignment of the device was corrected"}


def provenance(targets: Sequence[str], statement: str, now: datetime) -> Resource:
    """`targets` and `statement` are versions, as references."""
    return {
        "resourceType": "Provenance",
        "target": [{"reference": target} for target in targets],
        "recorded": format_instant(now),
        "reason": [_REASON],
        "activity": _ACTIVITY,
        "agent": [_AGENT],
        "entity": [{"role": "source", "what": {"reference": statement}}],
    }
