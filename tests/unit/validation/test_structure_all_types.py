"""Every resource type of R4, with only what it must have and with nearly all it may have."""

import pytest

from fhir_server import definitions
from fhir_server.core.validation.primitive import PRIMITIVES
from fhir_server.core.validation.structure import StructureValidator

RULES = definitions.load_type_rules()
VALIDATOR = StructureValidator(RULES)
TYPES = sorted(VALIDATOR.resource_types)

SAMPLES = {
    "boolean": True,
    "integer": 1,
    "unsignedInt": 0,
    "positiveInt": 1,
    "decimal": 1,
    "string": "x",
    "markdown": "x",
    "xhtml": "<div>x</div>",
    "uri": "urn:x",
    "url": "https://x.example",
    "canonical": "https://x.example|1",
    "oid": "urn:oid:1.2",
    "uuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "id": "x",
    "code": "x",
    "base64Binary": "QUJD",
    "date": "2024",
    "dateTime": "2024",
    "instant": "2024-01-01T00:00:00Z",
    "time": "00:00:00",
}


def make(type_name, depth, element=None):
    """A value of a type; with `depth` left, of all its elements, else of those it must have."""
    listed = RULES.value_sets.get(element.value_set) if element else None
    if type_name in PRIMITIVES:
        return min(min(codes) for codes in listed.values()) if listed else SAMPLES[type_name]
    if type_name == "Extension":
        return {"url": "urn:x", "valueString": "x"}
    if type_name == "Reference":
        return {"reference": f"{(element.targets or ('Basic',))[0]}/1"}
    if type_name == "Resource":
        return {"resourceType": "Basic", "id": "x", "code": {"text": "x"}}
    if listed and type_name in ("Coding", "CodeableConcept"):
        system, codes = min(listed.items())
        coding = {"system": system, "code": min(codes)}
        return coding if type_name == "Coding" else {"coding": [coding]}
    value = fill(RULES[type_name], depth)
    return value or {"extension": [make("Extension", 0)]}


def fill(rule, depth):
    value = {}
    for element in rule.elements:
        is_wanted = element.minimum or depth > 0
        if not is_wanted or element.name in ("contained", "id", "comparator"):
            continue
        name = rule.json_names(element.name)[0]
        item = make(element.types[0], depth - 1, element)
        value[name] = [item] if element.is_list else item
    return value


@pytest.mark.parametrize("resource_type", TYPES)
def test_what_a_type_demands_is_enough(resource_type):
    resource = {"resourceType": resource_type, **fill(RULES[resource_type], 0)}

    assert VALIDATOR.check(resource) == ()


@pytest.mark.parametrize("resource_type", TYPES)
def test_all_that_a_type_allows_is_let_through(resource_type):
    resource = {"resourceType": resource_type, **fill(RULES[resource_type], 3)}

    # Not everything that is allowed is allowed together; that is what invariants say.
    assert [i for i in VALIDATOR.check(resource) if i.code != "invariant"] == []


@pytest.mark.parametrize("resource_type", TYPES)
def test_what_a_type_demands_is_demanded(resource_type):
    rule = RULES[resource_type]
    for element in rule.elements:
        if element.minimum:
            resource = {"resourceType": resource_type, **fill(rule, 0)}
            for name in rule.json_names(element.name):
                resource.pop(name, None)

            found = [(i.code, i.expression) for i in VALIDATOR.check(resource)]

            assert ("required", f"{resource_type}.{element.name}") in found
