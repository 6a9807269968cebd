"""FHIR XML in and out: the same resources that `resource_json` reads and writes.

Lossless both ways: decimals keep their digits, dates their text, a narrative its bytes.
https://hl7.org/fhir/R4/xml.html
"""

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.resource_json import Resource
from fhir_server.core.xml import read, write


def parse(body: bytes, types: ElementTypes) -> Resource:
    """A resource from its XML.

    Raises:
        MalformedResource: not XML in UTF-8, a document type declaration, nested too deeply,
            no resource of R4.
        InvalidResource: elements, attributes or values that the types do not have; each is
            told with its path.
    """
    return read.read(body, types)


def format(  # noqa: A001 - `resource_xml.format`, beside `parse`
    resource: Resource, types: ElementTypes, *, is_pretty: bool = False
) -> bytes:
    """A resource as XML, its elements in R4's order.

    Raises:
        NotAcceptable: it holds what its type does not have, which XML cannot say.
    """
    return write.write(resource, types, is_pretty=is_pretty)
