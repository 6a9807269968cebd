"""Whether a profile may refuse one measured number where it takes another."""

import pytest

from fhir_server.definitions import load

PROFILES = load().profiles
URL = "https://pmp.example/fhir/StructureDefinition/tested"
QUANTITY = {"value": 5, "system": "http://unitsofmeasure.org", "code": "kg"}
LIMITING = [
    {"path": "Observation.value[x]", "minValueQuantity": QUANTITY},
    {"path": "Observation.value[x]", "fixedQuantity": QUANTITY},
    {"path": "Observation.value[x]", "patternQuantity": {"value": 5}},
    {"path": "Observation.valueQuantity.value", "maxValueDecimal": 5},
    {"path": "Observation.value[x].value", "fixedDecimal": 5},
    {"path": "Observation.effective[x]", "minValueDateTime": "2026-01-01"},
]
HARMLESS = [
    {"path": "Observation.device", "min": 1},
    {"path": "Observation.value[x]", "patternQuantity": {"code": "kg"}},
    {"path": "Observation.value[x].system", "fixedUri": "http://unitsofmeasure.org"},
    {"path": "Observation.value[x]", "type": [{"code": "Quantity"}], "min": 1},
]


def is_limiting(**element):
    resource = {
        "resourceType": "StructureDefinition",
        "url": URL,
        "type": "Observation",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Observation",
        "derivation": "constraint",
        "differential": {"element": [element]},
    }
    return PROFILES.having([resource]).limits_numbers(URL)


def invariant(path, expression):
    rule = {"key": "t-1", "severity": "error", "human": "t", "expression": expression}
    return is_limiting(path=path, constraint=[rule])


@pytest.mark.parametrize("element", LIMITING, ids=str)
def test_a_limit_or_a_fixed_number_is_one(element):
    assert is_limiting(**element)


@pytest.mark.parametrize("element", HARMLESS, ids=str)
def test_the_shape_of_a_value_is_none(element):
    assert not is_limiting(**element)


@pytest.mark.parametrize(
    ("path", "expression"),
    [
        ("Observation", "value.value < 5"),
        ("Observation", "(value as Quantity).value < 5"),
        ("Observation", "component.value.exists() and component.value.value < 5"),
        ("Observation", "descendants().where($this = 5).empty()"),
        ("Observation.value[x]", "$this < 5 'kg'"),
    ],
)
def test_an_invariant_that_looks_into_a_value_is_one(path, expression):
    assert invariant(path, expression)


@pytest.mark.parametrize(
    "expression",
    [
        "value.exists() or dataAbsentReason.exists()",
        "value.empty() implies dataAbsentReason.exists()",
        "code.exists() implies value.code = 'kg'",
        "component.value . exists()",
    ],
)
def test_an_invariant_about_presence_and_unit_is_none(expression):
    assert not invariant("Observation", expression)


def test_a_profile_of_the_value_counts():
    inner = {
        "resourceType": "StructureDefinition",
        "url": URL + "-quantity",
        "type": "Quantity",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Quantity",
        "derivation": "constraint",
        "differential": {"element": [{"path": "Quantity.value", "maxValueDecimal": 5}]},
    }
    profiles = PROFILES.having([inner])
    type_ = {"code": "Quantity", "profile": [URL + "-quantity"]}
    outer = {
        "resourceType": "StructureDefinition",
        "url": URL,
        "type": "Observation",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Observation",
        "derivation": "constraint",
        "differential": {"element": [{"path": "Observation.value[x]", "type": [type_]}]},
    }
    assert profiles.having([outer]).limits_numbers(URL)


def test_what_is_not_known_limits_nothing():
    assert not PROFILES.limits_numbers("urn:nobody")
