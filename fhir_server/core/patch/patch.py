"""Patch: one of the three kinds, read and ready to be applied.

https://hl7.org/fhir/R4/http.html#patch
"""

from collections.abc import Callable
from typing import NamedTuple

from fhir_server.core import resource_json, resource_xml
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.patch import fhirpath_patch, json_patch, merge_patch
from fhir_server.core.patch.budget import Budget
from fhir_server.core.resource_json import Resource
from fhir_server.errors import UnsupportedMediaType

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"
PLAIN_JSON = "application/json"
"""What clients say that mean any of the kinds in JSON: the body tells which."""

PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, FHIR_JSON, FHIR_XML)


class Patch(NamedTuple):
    """`change` makes the patched resource of one, and leaves that as it is.

    `size` is in bytes, as it was sent.
    """

    change: Callable[[Resource, Budget], Resource]
    size: int


def parse(media_type: str, body: bytes, types: ElementTypes) -> Patch:
    """The patch in `body`; FHIR's own formats hold a FHIRPath Patch.

    Raises:
        UnsupportedMediaType: `media_type` is none of `PATCH_TYPES`, nor `PLAIN_JSON`.
        InvalidRequest: `body` is no such patch.
        TooCostly: it has more operations than one may.
    """
    if media_type == PLAIN_JSON:
        media_type = _kind_of(resource_json.parse_incoming(body))
    match media_type:
        case "application/json-patch+json":
            operations = resource_json.parse_incoming(body)
            json_patch.check(operations)
            return Patch(lambda r, budget: json_patch.apply(r, operations, budget), len(body))
        case "application/merge-patch+json":
            merge = resource_json.parse_incoming(body)
            merge_patch.check(merge)
            return Patch(lambda r, _: merge_patch.apply(r, merge), len(body))
        case "application/fhir+json":
            return of_parameters(resource_json.parse_incoming_resource(body), types, len(body))
        case "application/fhir+xml":
            return of_parameters(resource_xml.parse(body, types), types, len(body))
    raise UnsupportedMediaType(f"a patch is one of {', '.join(PATCH_TYPES)}")


def _kind_of(sent: object) -> str:
    if isinstance(sent, list):
        return JSON_PATCH
    is_parameters = isinstance(sent, dict) and sent.get("resourceType") == "Parameters"
    return FHIR_JSON if is_parameters else MERGE_PATCH


def of_parameters(parameters: Resource, types: ElementTypes, size: int) -> Patch:
    """The FHIRPath Patch that `parameters` are.

    Raises:
        InvalidRequest: they are none.
        TooCostly: it has more operations than one may.
    """
    operations = fhirpath_patch.parse(parameters)
    return Patch(lambda r, budget: fhirpath_patch.perform(r, operations, types, budget), size)
