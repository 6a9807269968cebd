"""A notification's body in the format that a subscriber asked for."""

from fhir_server.core import resource_json, resource_xml
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.subscription import XML_TYPES


def encode(media_type: str, body: bytes, element_types: ElementTypes) -> bytes:
    """The JSON `body` as `media_type` has it.

    Raises:
        NotAcceptable: it cannot be said in XML.
    """
    if media_type.partition(";")[0].strip() not in XML_TYPES:
        return body
    return resource_xml.format(resource_json.parse_resource(body), element_types)
