"""Whose clocks a schedule means: those where the patient lives, if the Patient says so.

https://hl7.org/fhir/extensions/StructureDefinition-timezone.html
"""

from datetime import tzinfo

from fhir_server.core import date_range
from fhir_server.core.resource_json import Resource

TIME_ZONE = "http://hl7.org/fhir/StructureDefinition/timezone"


def zone_of(patient: Resource, default: tzinfo) -> tzinfo:
    """The zone of the extension on the Patient or one of its addresses, else `default`."""
    for element in (patient, *patient.get("address", ())):
        for extension in element.get("extension", ()):
            if extension.get("url") == TIME_ZONE and (name := extension.get("valueCode")):
                try:
                    return date_range.load_zone(str(name))
                except ValueError:
                    # A schedule in the server's zone is better than none.
                    continue
    return default
