"""What Acme reads. Pure: versions in, a value out, so that tests need no server."""

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.core.resource_json import Resource
from fhir_server.core.whom import patient_of


def group(resource: Resource) -> str | None:
    """A patient's day; None for what Acme does not want."""
    when = str(resource.get("effectiveDateTime", ""))[:10]
    patient = patient_of(resource)
    return f"{patient}/{when}" if patient and when else None


def translate(resources: Iterable[Resource], policy_number: str) -> Mapping[str, Any]:
    """The same for the same measurements, however often it is sent."""
    days = sorted({str(each["effectiveDateTime"])[:10] for each in resources})
    return {"policy": policy_number, "measuredOn": days}
