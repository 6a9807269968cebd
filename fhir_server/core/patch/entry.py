"""The patch of a Bundle's entry: Parameters, or a Binary that holds any of the kinds.

https://hl7.org/fhir/R4/http.html#patch
"""

import base64
import binascii

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.patch.patch import Patch, of_parameters, parse
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, Issue


def parse_entry(resource: Resource, types: ElementTypes) -> Patch:
    """The patch that `resource`, an entry's, is or holds.

    Raises:
        InvalidRequest: it is none.
        UnsupportedMediaType: a Binary of another type.
        TooCostly: it has more operations than one may.
    """
    match resource["resourceType"]:
        case "Parameters":
            return of_parameters(resource, types, 0)
        case "Binary":
            content_type = resource.get("contentType")
            media_type = content_type if isinstance(content_type, str) else ""
            media_type = media_type.partition(";")[0].strip().lower()
            return parse(media_type, _content(resource.get("data")), types)
    issue = Issue("value", "a patch is Parameters or a Binary", f"{resource['resourceType']}")
    raise InvalidRequest(issues=(issue,))


def _content(data: object) -> bytes:
    try:
        if not isinstance(data, str):
            raise ValueError
        return base64.b64decode("".join(data.split()), validate=True)
    except (ValueError, binascii.Error):
        issue = Issue("value", "must be the patch as base64", "Binary.data")
        raise InvalidRequest(issues=(issue,)) from None
