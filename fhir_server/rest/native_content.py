"""Binary in its native form: what it holds comes in and goes out without base64 around it.

Only a client that names a type of its own is answered so: who takes anything gets FHIR.
https://hl7.org/fhir/R4/binary.html#rest
"""

import base64
import binascii

from starlette.responses import Response

from fhir_server.core.version import Version
from fhir_server.errors import NotAcceptable
from fhir_server.rest import negotiation, responses
from fhir_server.rest.request import FhirRequest

# What a browser is told of content that anyone may have stored: show and run nothing of it.
_HARMLESS = {
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept",
}


def of_version(request: FhirRequest, version: Version) -> Response:
    """The content of `version`, which is a Binary.

    Raises:
        NotAcceptable: it is of a type that the client does not take.
    """
    binary = version.resource()
    content_type = str(binary.get("contentType", ""))
    # A header takes Latin-1, and one line of it.
    is_a_header = content_type.isascii() and content_type.isprintable()
    if not is_a_header or not negotiation.takes(request.headers.get("accept"), content_type):
        raise NotAcceptable("Accept: the Binary holds another type; FHIR's JSON and XML are there")
    try:
        content = base64.b64decode(str(binary.get("data", "")))
    except binascii.Error:
        raise NotAcceptable("the Binary's data is not base64: read it as a resource") from None
    # Indenting is for resources.
    request.is_pretty = False
    headers = {**_HARMLESS, **responses.version_headers(version), "Content-Type": content_type}
    return Response(content, 200, headers)
