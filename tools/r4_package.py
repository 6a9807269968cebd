"""HL7's package of FHIR R4 definitions, read from its archive."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"


class Package:
    """The definitions by resource type and canonical URL."""

    def __init__(self, archive: Path) -> None:
        self._resources: dict[str, dict[str, Json]] = {}
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if self._is_definition(member.name) else None
                if file is not None:
                    resource = json.load(file)
                    by_url = self._resources.setdefault(resource["resourceType"], {})
                    by_url[resource.get("url", member.name)] = resource

    @property
    def all(self) -> Mapping[str, Mapping[str, Json]]:
        return self._resources

    def of_type(self, resource_type: str) -> Mapping[str, Json]:
        return self._resources.get(resource_type, {})

    @staticmethod
    def _is_definition(name: str) -> bool:
        folder, _, file = name.rpartition("/")
        return folder == "package" and file.endswith(".json") and file[:1].isupper()
