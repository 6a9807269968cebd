"""What profile folders and FHIR packages hold, from the bytes of their files.

https://hl7.org/fhir/R4/profilelist.html, https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
"""

import io
import tarfile
from collections.abc import Iterator

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import MalformedResource

KINDS = ("StructureDefinition", "ValueSet", "CodeSystem")

_LARGEST = 64 * 1024 * 1024
_LARGEST_PACKAGE = 1024 * 1024 * 1024


def parse_definition(body: bytes) -> Resource:
    """A StructureDefinition, ValueSet or CodeSystem with a url.

    Raises:
        ValueError: it is something else.
    """
    try:
        resource = resource_json.parse_resource(body)
    except MalformedResource as error:
        raise ValueError(str(error)) from None
    if resource["resourceType"] not in KINDS or not isinstance(resource.get("url"), str):
        raise ValueError(f"no {' or '.join(KINDS)} with a url")
    return resource


def unpack(archive: bytes) -> Iterator[Resource]:
    """The definitions of a FHIR package (.tgz); nothing of it is written to a disk.

    Raises:
        ValueError: it is no such package, or a file in it is larger than any definition.
    """
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if folder != "package" or not name.startswith(KINDS) or not name.endswith(".json"):
                    continue
                total += member.size
                if member.size > _LARGEST or total > _LARGEST_PACKAGE:
                    raise ValueError(f"{name[:100]} is larger than definitions are")
                file = tar.extractfile(member)
                if file is not None:
                    yield parse_definition(file.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"it is no FHIR package: {error}") from None
