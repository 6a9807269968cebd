"""Whom a resource is about, read from the elements that every type spells alike.

The whole compartment (https://hl7.org/fhir/R4/compartmentdefinition-patient.html) has
recorders and performers as well; a ledger is asked for the one the data are of.
"""

from fhir_server.core import reference
from fhir_server.core.resource_json import Resource

_ELEMENTS = ("subject", "patient", "for", "beneficiary", "individual")
_PATIENT = "Patient"


def patient_of(resource: Resource) -> str:
    """`Patient/42`, or "" where the resource is about no patient of this server."""
    if resource["resourceType"] == _PATIENT:
        return f"{_PATIENT}/{resource['id']}" if resource.get("id") else ""
    for name in _ELEMENTS:
        element = resource.get(name)
        text = element.get("reference") if isinstance(element, dict) else None
        found = reference.parse(text) if isinstance(text, str) else None
        if found is not None and found.is_local and found.resource_type == _PATIENT:
            return f"{_PATIENT}/{found.resource_id}"
    return ""
