"""The compiled subset of FHIRPath: what it finds, of which type, and what it refuses."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.path import resolve
from fhir_server.core.fhirpath.walk import compile_expression
from fhir_server.definitions import load_element_types, load_search_parameters

TYPES = load_element_types()

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "name": [
        {"family": "A", "given": ["B", None, "C"]},
        {"family": "D", "_given": [{"extension": []}]},
    ],
    "telecom": [
        {"system": "phone", "value": "1"},
        {"system": "email", "value": "2"},
        {"value": "3"},
    ],
    "deceasedDateTime": "2020",
    "generalPractitioner": [
        {"reference": "Practitioner/1"},
        {"reference": "Organization/2"},
        {"reference": "http://other/fhir/Practitioner/3"},
        {"reference": "urn:uuid:4", "type": "Practitioner"},
        {"display": "nobody"},
    ],
    "extension": [
        {"url": "http://x/a", "valueString": "s"},
        {"url": "http://x/a", "valueCoding": {"code": "c"}},
        {"url": "http://x/'b", "valueString": "t"},
    ],
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "valueQuantity": {"value": Decimal("1.50")},
    "component": [
        {"valueQuantity": {"value": 2}},
        {"valueString": "x"},
        {"valueQuantity": {"value": 3}},
    ],
}


def values(text: str, resource: dict[str, Any]) -> list[tuple[str, Any]]:
    return compile_expression(parse(text), TYPES, resource["resourceType"])(resource)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Patient.active", [("boolean", True)]),
        ("Patient.birthDate", []),
        ("Patient.name.family", [("string", "A"), ("string", "D")]),
        ("Patient.name.given", [("string", "B"), ("string", "C")]),
        ("name.family", [("string", "A"), ("string", "D")]),
        ("Resource.id", [("id", "p")]),
        ("%resource.active", [("boolean", True)]),
        ("Patient.telecom.where(system='phone').value", [("string", "1")]),
        ("Patient.telecom.where(system = 'phone' or system = 'email').value",
         [("string", "1"), ("string", "2")]),
        ("Patient.telecom.where(system.exists()).value", [("string", "1"), ("string", "2")]),
        ("Patient.telecom.where(system.empty()).value", [("string", "3")]),
        ("Patient.telecom.where(system.exists().not()).value", [("string", "3")]),
        ("Patient.telecom.where(system != 'phone').value", [("string", "2")]),
        ("Patient.telecom.where($this.system = 'email' and value = '2').value",
         [("string", "2")]),
        ("Patient.telecom[1].value", [("string", "2")]),
        ("Patient.telecom[9].value", []),
        ("Patient.telecom.first().value", [("string", "1")]),
        ("Patient.deceased", [("dateTime", "2020")]),
        ("(Patient.deceased as dateTime)", [("dateTime", "2020")]),
        ("Patient.deceased.as(boolean)", []),
        ("Patient.deceased.ofType(dateTime)", [("dateTime", "2020")]),
        ("Patient.deceased as DateTime", [("dateTime", "2020")]),
        ("Patient.deceased as FHIR.dateTime", [("dateTime", "2020")]),
        ("Patient.deceased.exists() and Patient.deceased != false", [("boolean", True)]),
        ("Patient.deceased is dateTime", [("boolean", True)]),
        ("Patient.birthDate is date", []),
        ("Patient.active = true", [("boolean", True)]),
        ("Patient.active.not()", [("boolean", False)]),
        ("Patient.birthDate = '1'", []),
        ("Patient.birthDate = '1' or true", [("boolean", True)]),
        ("Patient.birthDate = '1' and false", [("boolean", False)]),
        ("Patient.extension('http://x/a').value", [("string", "s"), ("Coding", {"code": "c"})]),
        ("Patient.extension('http://x/\\'b').value.ofType(string)", [("string", "t")]),
        ("Patient.where(hasExtension('http://x/a')).active", [("boolean", True)]),
        ("Patient.extension.where(url='http://x/a').value as Coding", [("Coding", {"code": "c"})]),
        ("Patient.id | Patient.active", [("id", "p"), ("boolean", True)]),
        ("Patient.id | Patient.id", [("id", "p")]),
    ],
)  # fmt: skip
def test_an_expression_finds_values_with_their_types(
    text: str, found: list[tuple[str, Any]]
) -> None:
    assert values(text, PATIENT) == found


@pytest.mark.parametrize(
    ("target", "found"),
    [("Practitioner", ["1", "3", "4"]), ("Organization", ["2"]), ("Patient", [])],
)
def test_resolve_is_asks_what_a_reference_says(target: str, found: list[str]) -> None:
    text = f"Patient.generalPractitioner.where(resolve() is {target})"
    assert [v["reference"][-1] for _, v in values(text, PATIENT)] == found


def test_a_cast_of_many_items_keeps_those_of_the_type() -> None:
    text = "(Observation.value as Quantity) | (Observation.component.value as Quantity)"
    assert [v["value"] for _, v in values(text, OBSERVATION)] == [Decimal("1.50"), 2, 3]


def test_an_age_is_a_quantity_but_a_canonical_no_uri() -> None:
    condition = {"resourceType": "Condition", "onsetAge": {"value": 3}}
    assert values("Condition.onset as Quantity", condition) == [("Age", {"value": 3})]
    concept_map = {"resourceType": "ConceptMap", "sourceCanonical": "http://x"}
    assert values("ConceptMap.source as uri", concept_map) == []
    assert values("ConceptMap.source as canonical", concept_map) == [("canonical", "http://x")]


def test_a_resource_within_can_be_cast_to_its_type() -> None:
    bundle = {
        "resourceType": "Bundle",
        "entry": [{"resource": PATIENT}, {}, {"resource": OBSERVATION}],
    }
    assert values("Bundle.entry.resource.ofType(Patient).id", bundle) == [("id", "p")]
    assert values("Bundle.entry[0].resource", bundle) == [("Resource", PATIENT)]
    assert values("Bundle.entry[1].resource", bundle) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Patient.",
        ".Patient",
        "Patient.nothing",
        "nothing",
        "Observation.code",
        "Patient.name.family.x",
        "Patient.name.select(family)",
        "Patient.name.trace('x')",
        "Patient.managingOrganization.resolve()",
        "Patient.managingOrganization.resolve().name",
        "'x'",
        "Patient.name[0",
        "Patient.name[-1]",
        "Patient.name[99999999999]",
        "Patient.name.given[0]",
        "(Patient.name",
        "Patient.name)",
        "Patient name",
        "Patient.name as",
        "Patient.name; import os",
        'Patient.name."x"',
        "Patient.__class__",
        "Patient.name.where(family = 'a\"b' or",
        "Patient" + ".contact" * 50,
        "(" * 100 + "Patient" + ")" * 100,
        "Patient.active" + " and Patient.active" * 100,
        "x" * 30_000,
    ],
)
def test_what_is_not_compiled_is_refused(text: str) -> None:
    with pytest.raises(FhirPathError):
        values(text, PATIENT)


@given(st.text(max_size=40))
def test_a_literal_is_never_code(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    patient = {"resourceType": "Patient", "telecom": [{"system": text, "value": "1"}, {}]}
    found = values(f"Patient.telecom.where(system='{escaped}').value", patient)
    assert found == [("string", "1")]


@given(st.text(alphabet="Patient.name()'|= [0]whersutxi", max_size=60))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        values(text, PATIENT)
    except FhirPathError:
        return


def test_every_search_parameter_of_r4_leads_somewhere() -> None:
    for parameter in load_search_parameters():
        root = parameter.resource_type
        assert resolve(parse(parameter.expression), TYPES, root, root), parameter.url


def test_a_type_without_elements_has_no_members() -> None:
    with pytest.raises(FhirPathError):
        compile_expression(parse("Foo.bar"), ElementTypes({}), "Foo")
