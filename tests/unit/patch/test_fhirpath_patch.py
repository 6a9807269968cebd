"""FHIRPath Patch: https://hl7.org/fhir/R4/fhirpatch.html."""

import copy
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server import definitions
from fhir_server.core import resource_json
from fhir_server.core.patch import fhirpath_patch
from fhir_server.errors import InvalidRequest, InvalidResource, TooCostly

TYPES = definitions.load_element_types()

PATIENT = {
    "resourceType": "Patient",
    "id": "1",
    "contained": [{"resourceType": "Organization", "id": "o", "name": "x"}],
    "name": [
        {"use": "official", "given": ["A", "B"], "_given": [None, {"id": "b"}]},
        {"use": "usual", "family": "F"},
    ],
    "birthDate": "1930",
    "_birthDate": {"extension": [{"url": "u:time", "valueDateTime": "1930-01-01"}]},
    "deceasedBoolean": False,
    "telecom": [{"system": "phone", "value": "1"}],
    "contact": [{"gender": "male"}],
}
OBSERVATION = {
    "resourceType": "Observation",
    "status": "final",
    "valueQuantity": {"value": Decimal("1.50"), "unit": "kg"},
    "component": [
        {"code": {"coding": [{"code": "sys"}]}, "valueQuantity": {"value": Decimal("120.0")}},
        {"code": {"coding": [{"code": "dia"}]}, "valueQuantity": {"value": Decimal("80.0")}},
    ],
}
KINDS = {"name": "valueString", "path": "valueString", "type": "valueCode"}


def operation(kind, path, **parts):
    """An operation; `value` is the rest of its part, such as {"valueDate": …}."""
    found = []
    for name, value in {"type": kind, "path": path, **parts}.items():
        said = value if name == "value" else {KINDS.get(name, "valueInteger"): value}
        found.append({"name": name, **said})
    return {"name": "operation", "part": found}


def apply(resource, *operations):
    parameters = {"resourceType": "Parameters", "parameter": list(operations)}
    before = copy.deepcopy((resource, parameters))
    patched = fhirpath_patch.apply(resource, parameters, TYPES)
    assert (resource, parameters) == before
    return patched


def changed(resource, **changes):
    """`resource` with these elements; `...` is none."""
    return {name: v for name, v in {**resource, **changes}.items() if v is not ...}


def test_no_operation_changes_nothing():
    assert fhirpath_patch.apply(PATIENT, {"resourceType": "Parameters"}, TYPES) == PATIENT


@pytest.mark.parametrize(
    ("done", "changes"),
    [
        (
            operation("add", "Patient", name="gender", value={"valueCode": "male"}),
            {"gender": "male"},
        ),
        (
            operation("add", "Patient", name="name", value={"valueHumanName": {"text": "x"}}),
            {"name": [*PATIENT["name"], {"text": "x"}]},
        ),
        (
            operation(
                "add",
                "Patient",
                name="contact",
                value={
                    "part": [
                        {"name": "name", "valueHumanName": {"text": "n"}},
                        {"name": "telecom", "valueContactPoint": {"value": "1"}},
                        {"name": "telecom", "valueContactPoint": {"value": "2"}},
                    ]
                },
            ),
            {
                "contact": [
                    {"gender": "male"},
                    {"name": {"text": "n"}, "telecom": [{"value": "1"}, {"value": "2"}]},
                ]
            },
        ),
        (
            operation("add", "Patient", name="multipleBirth", value={"valueInteger": 2}),
            {"multipleBirthInteger": 2},
        ),
        (
            operation("add", "Patient", name="multipleBirth[x]", value={"valueBoolean": True}),
            {"multipleBirthBoolean": True},
        ),
        (
            operation(
                "add",
                "Patient",
                name="contained",
                value={"resource": {"resourceType": "Basic", "id": "b"}},
            ),
            {"contained": [*PATIENT["contained"], {"resourceType": "Basic", "id": "b"}]},
        ),
        (
            operation(
                "add",
                "Patient.deceased",
                name="extension",
                value={
                    "part": [
                        {"name": "url", "valueUri": "u:x"},
                        {"name": "value", "valueString": "y"},
                    ]
                },
            ),
            {"_deceasedBoolean": {"extension": [{"url": "u:x", "valueString": "y"}]}},
        ),
        (operation("delete", "Patient.birthDate"), {"birthDate": ..., "_birthDate": ...}),
        (operation("delete", "Patient.birthDate.extension('u:time')"), {"_birthDate": ...}),
        (operation("delete", "Patient.maritalStatus"), {}),
        (operation("delete", "Patient.deceased"), {"deceasedBoolean": ...}),
        (operation("delete", "Patient.telecom[0]"), {"telecom": ...}),
        (operation("delete", "Patient.contact[0].gender"), {"contact": ...}),
        (operation("delete", "Patient.name.where(use = 'usual')"), {"name": PATIENT["name"][:1]}),
        (
            operation("replace", "Patient.birthDate", value={"valueDate": "1931"}),
            {"birthDate": "1931", "_birthDate": ...},
        ),
        (
            operation("replace", "Patient.deceased", value={"valueDateTime": "2020"}),
            {"deceasedBoolean": ..., "deceasedDateTime": "2020"},
        ),
        (
            operation(
                "replace",
                "Patient.telecom.where(system = 'phone' and value = '1').value",
                value={"valueString": "2"},
            ),
            {"telecom": [{"system": "phone", "value": "2"}]},
        ),
        (
            operation("replace", "Patient.contained[0].name", value={"valueString": "y"}),
            {"contained": [{"resourceType": "Organization", "id": "o", "name": "y"}]},
        ),
        (
            operation("replace", "Patient.name.first().given[1]", value={"valueString": "C"}),
            {"name": [{"use": "official", "given": ["A", "C"]}, PATIENT["name"][1]]},
        ),
        (
            operation("insert", "Patient.name[0].given", index=1, value={"valueString": "Z"}),
            {
                "name": [
                    {
                        "use": "official",
                        "given": ["A", "Z", "B"],
                        "_given": [None, None, {"id": "b"}],
                    },
                    PATIENT["name"][1],
                ]
            },
        ),
        (
            operation(
                "insert", "Patient.identifier", index=0, value={"valueIdentifier": {"value": "i"}}
            ),
            {"identifier": [{"value": "i"}]},
        ),
        (
            operation("move", "Patient.name[0].given", source=1, destination=0),
            {
                "name": [
                    {"use": "official", "given": ["B", "A"], "_given": [{"id": "b"}, None]},
                    PATIENT["name"][1],
                ]
            },
        ),
    ],
)
def test_an_operation_does_what_r4_says(done, changes):
    assert apply(PATIENT, done) == changed(PATIENT, **changes)


def test_operations_see_what_earlier_ones_did():
    patched = apply(
        PATIENT,
        operation("delete", "Patient.contact[0]"),
        operation("add", "Patient", name="contact", value={"part": []}),
        operation("add", "Patient.contact[0]", name="gender", value={"valueCode": "female"}),
        operation("replace", "Patient.contact.gender", value={"valueCode": "other"}),
    )

    assert patched["contact"] == [{"gender": "other"}]


def test_decimals_keep_their_digits_after_a_fhirpath_patch():
    patched = apply(
        OBSERVATION,
        operation(
            "replace",
            "Observation.component.where(code.coding.where(code = 'sys').exists())"
            ".value.ofType(Quantity).value",
            value={"valueDecimal": Decimal("121.00")},
        ),
    )

    said = resource_json.format(patched)
    assert b'"value":121.00' in said
    assert b'"value":1.50' in said
    assert b'"value":80.0' in said


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_a_moved_item_is_where_it_was_sent(items, data):
    source = data.draw(st.integers(0, len(items) - 1))
    destination = data.draw(st.integers(0, len(items) - 1))
    resource = {"resourceType": "Patient", "contact": [{"id": f"i{i}"} for i in items]}

    patched = apply(
        resource, operation("move", "Patient.contact", source=source, destination=destination)
    )

    assert patched["contact"][destination] == resource["contact"][source]
    rest = [c for i, c in enumerate(resource["contact"]) if i != source]
    assert [c for i, c in enumerate(patched["contact"]) if i != destination] == rest


X = {"valueString": "x"}


@pytest.mark.parametrize(
    "done",
    [
        operation("add", "Patient.maritalStatus", name="text", value=X),
        operation("add", "Patient.name", name="text", value=X),
        operation("add", "Patient", name="foo", value=X),
        operation("add", "Patient", name="birthDate", value={"valueDate": "2000"}),
        operation("add", "Patient", name="deceased", value={"valueDateTime": "2000"}),
        operation("add", "Patient", name="active", value=X),
        operation("add", "Patient", name="maritalStatus", value={"valueCoding": {"code": "x"}}),
        operation("add", "Patient", name="maritalStatus", value={"part": [{"name": "no", **X}]}),
        operation("add", "Patient", name="multipleBirthInteger", value={"valueBoolean": True}),
        operation("add", "Patient", name="multipleBirth", value=X),
        operation("add", "Patient", name="gender", value={"part": []}),
        operation("add", "Patient", name="name", value={"resource": {"resourceType": "Basic"}}),
        operation("add", "'text'", name="gender", value=X),
        operation("insert", "Patient.name", index=3, value={"valueHumanName": {}}),
        operation("insert", "Patient.birthDate", index=0, value=X),
        operation("insert", "Patient.name[0]", index=0, value=X),
        operation("insert", "Patient.foo", index=0, value=X),
        operation("delete", "Patient"),
        operation("delete", "Patient.name"),
        operation("delete", "Patient.name.exists()"),
        operation("delete", "Patient.managingOrganization.resolve()"),
        operation("delete", "Patient.foo"),
        operation("delete", "Patient.id"),
        operation("replace", "Patient.id", value={"valueId": "2"}),
        operation("replace", "Patient.gender", value={"valueCode": "male"}),
        operation("replace", "Patient.name.use", value={"valueCode": "old"}),
        operation("replace", "Patient.birthDate", value={"valueBoolean": True}),
        operation("move", "Patient.name", source=0, destination=2),
        operation("move", "Patient.name", source=2, destination=0),
        operation("move", "Patient.identifier", source=0, destination=0),
    ],
)
def test_what_does_not_go_with_the_resource_is_told(done):
    with pytest.raises(InvalidResource) as caught:
        apply(PATIENT, done)

    assert caught.value.issues[0].code == "processing"


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        {"resourceType": "Patient"},
        {"resourceType": "Parameters", "parameter": {}},
        {"resourceType": "Parameters", "parameter": [1]},
        {"resourceType": "Parameters", "parameter": [{"name": "other"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "operation"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [{}]}]},
        *(
            {"resourceType": "Parameters", "parameter": [done]}
            for done in (
                operation("copy", "Patient"),
                operation("add", "Patient", name="gender"),
                operation("add", "Patient", value=X),
                operation("add", "Patient", name="gender", value={}),
                operation("insert", "Patient.name", index=-1, value=X),
                operation("insert", "Patient.name", index=True, value=X),
                operation("move", "Patient.name", source=0),
                operation("delete", ""),
                operation("delete", "Patient.("),
                operation("delete", "Patient.descendants()"),
                operation("delete", "Patient.name", other=1),
                operation("delete", "a." * 500_000),
                operation("delete", "Patient.where(" * 100 + ")" * 100),
            )
        ),
    ],
)
def test_what_is_no_fhirpath_patch_is_an_invalid_request(parameters):
    with pytest.raises(InvalidRequest):
        fhirpath_patch.apply(PATIENT, parameters, TYPES)


def test_a_fault_names_the_operation():
    with pytest.raises(InvalidResource) as caught:
        apply(PATIENT, operation("delete", "Patient.birthDate"), operation("delete", "Patient.foo"))

    assert caught.value.issues[0].expression == "Parameters.parameter[1]"


@pytest.mark.parametrize(
    ("resource", "operations"),
    [
        (PATIENT, [operation("delete", "Patient.maritalStatus")] * 2_000),
        (
            {"resourceType": "Patient", "contact": [{"gender": "male"}] * 20_000},
            [operation("delete", "Patient.contact.where(gender = 'x' or gender = 'y')")] * 500,
        ),
    ],
)
def test_a_patch_that_costs_too_much_is_refused_quickly(resource, operations):
    started = time.perf_counter()

    with pytest.raises(TooCostly):
        apply(resource, *operations)

    assert time.perf_counter() - started < 5


def test_values_nested_without_end_are_refused():
    value = {"name": "extension", "part": [{"name": "url", "valueUri": "u"}]}
    for _ in range(300):
        value = {"name": "extension", "part": [value]}

    done = operation("add", "Patient", name="extension", value={"part": [value]})
    parameters = {"resourceType": "Parameters", "parameter": [done]}

    with pytest.raises(TooCostly):
        fhirpath_patch.apply(PATIENT, parameters, TYPES)
