"""What fuzzed requests begin with: small resources of each type that a server acts upon."""

import json
import random
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

from fhir_server import definitions

_TESTS = Path(__file__).parents[1]
_LONGEST = 5_000

OURS = [
    json.loads(path.read_text("utf-8"))
    for path in sorted((_TESTS / "unit/validation/examples").glob("*.json"))
]
_URL = "https://pmp.example/fhir/"
DEFINITIONS: list[dict[str, Any]] = [
    {"resourceType": "SearchParameter", "url": f"{_URL}SearchParameter/x", "name": "X",
     "status": "active", "description": "x", "code": "x", "base": ["Patient", "Observation"],
     "type": "string", "expression": "Patient.name.where(use='nickname').given | Observation.id"},
    {"resourceType": "SearchParameter", "url": f"{_URL}SearchParameter/y", "name": "Y",
     "status": "active", "description": "y", "code": "y", "base": ["Observation"],
     "type": "composite", "expression": "Observation",
     "component": [{"definition": f"{_URL}SearchParameter/x", "expression": "code"}]},
    {"resourceType": "StructureDefinition", "url": f"{_URL}StructureDefinition/x", "name": "X",
     "status": "active", "kind": "resource", "abstract": False, "type": "Patient",
     "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
     "derivation": "constraint", "differential": {"element": [
         {"id": "Patient", "path": "Patient"},
         {"id": "Patient.name", "path": "Patient.name", "min": 1, "constraint": [
             {"key": "x-1", "severity": "error", "human": "x",
              "expression": "given.matches('^(a+)+$').not()"}]}]}},
    {"resourceType": "CodeSystem", "id": "1", "url": f"{_URL}CodeSystem/x", "status": "active",
     "content": "complete", "hierarchyMeaning": "is-a", "concept": [
         {"code": "a", "display": "A", "concept": [{"code": "b"}, {"code": "c"}]}]},
    {"resourceType": "ValueSet", "id": "1", "url": f"{_URL}ValueSet/x", "status": "active",
     "compose": {"include": [{"system": f"{_URL}CodeSystem/x", "filter": [
         {"property": "concept", "op": "is-a", "value": "a"}]},
         {"valueSet": [f"{_URL}ValueSet/x"]}]}},
    {"resourceType": "ConceptMap", "id": "1", "url": f"{_URL}ConceptMap/x", "status": "active",
     "group": [{"source": f"{_URL}CodeSystem/x", "target": "urn:x", "element": [
         {"code": "a", "target": [{"code": "z", "equivalence": "equal"}]}]}]},
    {"resourceType": "Parameters", "parameter": [
        {"name": "url", "valueUri": f"{_URL}ValueSet/x"}, {"name": "code", "valueCode": "b"},
        {"name": "system", "valueUri": f"{_URL}CodeSystem/x"}]},
]  # fmt: skip
_MODIFIERS = ["", "", "", "", ":missing", ":exact", ":contains", ":not", ":text", ":in", ":not-in",
              ":above", ":below", ":of-type", ":identifier", ":Patient", ":iterate", ":x", ".name",
              ".identifier", ":Patient.birthdate", "._has:Group:member:_id"]  # fmt: skip


@cache
def everything() -> list[dict[str, Any]]:
    """Ours, HL7's small ones, and definitions, each type as likely as any other."""
    by_type: dict[str, list[dict[str, Any]]] = {}
    with tarfile.open(_TESTS / "r4_examples/examples.tar.xz") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None or member.size > _LONGEST:
                continue
            resource = json.loads(file.read())
            by_type.setdefault(resource["resourceType"], []).append(resource)
    several = [each for resources in by_type.values() for each in resources[:3]]
    return [*OURS * 4, *several, *DEFINITIONS * 3]


@cache
def _codes(resource_type: str) -> list[str]:
    found: list[str] = []
    for parameter in definitions.load_search_parameters():
        if parameter.resource_type == resource_type:
            found.append(parameter.code)
    return found or ["_id"]


def parameter(chance: random.Random, resource_type: str) -> str:
    """One of the type's own, with something behind it or not."""
    return chance.choice(_codes(resource_type)) + chance.choice(_MODIFIERS)
