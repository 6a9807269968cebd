"""JSON Patch on resources: RFC 6902, and what a FHIR server adds to it."""

import copy
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import resource_json
from fhir_server.core.patch import json_patch
from fhir_server.errors import InvalidRequest, InvalidResource, TooCostly

PATIENT = {
    "resourceType": "Patient",
    "id": "1",
    "active": True,
    "name": [{"given": ["A", "B"]}],
    "telecom": [{"value": "1"}],
}


def apply(*operations, resource=PATIENT):
    before = copy.deepcopy((resource, operations))
    patched = json_patch.apply(resource, list(operations))
    assert (resource, operations) == before
    return patched


def test_operations_are_done_in_their_order():
    patched = apply(
        {"op": "test", "path": "/active", "value": True},
        {"op": "replace", "path": "/active", "value": False},
        {"op": "add", "path": "/name/0/given/-", "value": "C"},
        {"op": "add", "path": "/name/0/given/0", "value": "Z"},
        {"op": "move", "from": "/name/0/given/3", "path": "/name/0/given/0"},
        {"op": "copy", "from": "/name/0", "path": "/name/-"},
        {"op": "remove", "path": "/name/0/given/1"},
    )

    assert patched["active"] is False
    assert patched["name"] == [{"given": ["C", "A", "B"]}, {"given": ["C", "Z", "A", "B"]}]


def test_decimals_keep_their_digits_after_a_patch():
    observation = resource_json.parse_resource(
        b'{"resourceType":"Observation","valueQuantity":{"value":1.50},"component":[]}'
    )
    operations = resource_json.parse(
        b'[{"op":"test","path":"/valueQuantity/value","value":1.5},'
        b'{"op":"add","path":"/component/-","value":{"valueQuantity":{"value":0.100}}}]'
    )

    patched = json_patch.apply(observation, operations)

    assert resource_json.format(patched) == (
        b'{"resourceType":"Observation","valueQuantity":{"value":1.50},'
        b'"component":[{"valueQuantity":{"value":0.100}}]}'
    )


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/active", "value": False},
        {"op": "test", "path": "/active", "value": 1},
        {"op": "test", "path": "/active", "value": "true"},
        {"op": "test", "path": "/name/0/given", "value": ["B", "A"]},
        {"op": "test", "path": "/nothing", "value": None},
        {"op": "remove", "path": "/birthDate"},
        {"op": "replace", "path": "/birthDate", "value": "2000"},
        {"op": "remove", "path": "/name/1"},
        {"op": "remove", "path": "/name/-"},
        {"op": "add", "path": "/name/2", "value": {}},
        {"op": "add", "path": "/name/01", "value": {}},
        {"op": "add", "path": "/name/-1", "value": {}},
        {"op": "add", "path": "/contact/0/gender", "value": "male"},
        {"op": "add", "path": "/active/x", "value": 1},
        {"op": "copy", "from": "/nothing", "path": "/birthDate"},
        {"op": "move", "from": "/name", "path": "/name/0/x"},
        {"op": "replace", "path": "/id", "value": "2"},
        {"op": "remove", "path": "/id"},
        {"op": "replace", "path": "/resourceType", "value": "Person"},
        {"op": "remove", "path": "/resourceType"},
        {"op": "replace", "path": "", "value": {}},
        {"op": "replace", "path": "", "value": [1]},
    ],
)
def test_what_does_not_go_with_the_resource_cannot_be_processed(operation):
    with pytest.raises(InvalidResource) as caught:
        apply(operation)

    assert caught.value.issues[0].code == "processing"


@pytest.mark.parametrize(
    "operations",
    [
        {},
        None,
        "x",
        [1],
        [{}],
        [{"op": "Add", "path": "/x", "value": 1}],
        [{"op": "add", "path": "/x"}],
        [{"op": "add", "value": 1}],
        [{"op": "add", "path": "x", "value": 1}],
        [{"op": "add", "path": "/~2", "value": 1}],
        [{"op": "add", "path": ["x"], "value": 1}],
        [{"op": "move", "path": "/x"}],
        [{"op": "copy", "path": "/x", "from": 1}],
        [{"op": ["add"], "path": "/x", "value": 1}],
        [{"op": "add", "path": "/x" * 500_000, "value": 1}],
    ],
)
def test_what_is_no_json_patch_is_an_invalid_request(operations):
    with pytest.raises(InvalidRequest):
        json_patch.apply(PATIENT, operations)


def test_a_fault_names_the_operation_and_no_value():
    with pytest.raises(InvalidResource) as caught:
        apply(
            {"op": "test", "path": "/active", "value": True},
            {"op": "test", "path": "/name/0/given/0", "value": "Ivan"},
        )

    (issue,) = caught.value.issues
    assert "operation 1" in issue.diagnostics
    assert "Ivan" not in issue.diagnostics
    assert "A" not in issue.diagnostics


def test_what_was_emptied_is_gone():
    patched = apply(
        {"op": "remove", "path": "/telecom/0"},
        {"op": "add", "path": "/contact", "value": [{"name": {}}]},
        {"op": "remove", "path": "/name/0/given"},
    )

    assert patched == {"resourceType": "Patient", "id": "1", "active": True}


def test_what_stands_beside_a_list_of_values_keeps_its_place():
    resource = {
        "resourceType": "Patient",
        "name": [{"given": ["a", "b"], "_given": [{"id": "x"}, {"id": "y"}]}],
    }

    patched = apply({"op": "remove", "path": "/name/0/_given/0/id"}, resource=resource)

    assert patched["name"] == [{"given": ["a", "b"], "_given": [None, {"id": "y"}]}]


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "test", "path": "/active", "value": True}] * 100_000,
        [{"op": "add", "path": "/x", "value": ["a" * 1_000_000]}]
        + [{"op": "copy", "from": "/x/0", "path": "/x/-"}] * 1_000,
        [{"op": "copy", "from": "", "path": f"/x{i}"} for i in range(60)],
        [{"op": "add", "path": "/x", "value": nested(300)}],
        [{"op": "add", "path": "/x", "value": nested(800)}],
        [{"op": "add", "path": "/a", "value": nested(20)}]
        + [
            {"op": "move", "from": "/a", "path": "/b"},
            {"op": "add", "path": "/a", "value": {}},
            {"op": "move", "from": "/b", "path": "/a/a"},
        ]
        * 1_000,
    ],
    ids=["many", "copies", "doubling", "deep", "deeper", "deepening"],
)
def test_a_patch_that_costs_too_much_is_refused_quickly(operations):
    started = time.process_time()

    with pytest.raises(TooCostly):
        json_patch.apply(PATIENT, operations)

    assert time.process_time() - started < 2


def test_applying_twice_gives_the_same():
    operations = [
        {"op": "add", "path": "/contact", "value": [{"gender": "male"}]},
        {"op": "add", "path": "/contact/0/name", "value": {"text": "x"}},
    ]

    first = json_patch.apply(PATIENT, operations)

    assert json_patch.apply(PATIENT, operations) == first
    assert operations[0]["value"] == [{"gender": "male"}]


@given(st.lists(st.text(max_size=3), min_size=1, max_size=5), st.data())
def test_moving_there_and_back_changes_nothing(given_names, data):
    source = data.draw(st.integers(0, len(given_names) - 1))
    target = data.draw(st.integers(0, len(given_names) - 1))
    resource = {"resourceType": "Patient", "name": [{"given": given_names}]}

    patched = json_patch.apply(
        resource,
        [
            {"op": "move", "from": f"/name/0/given/{source}", "path": f"/name/0/given/{target}"},
            {"op": "move", "from": f"/name/0/given/{target}", "path": f"/name/0/given/{source}"},
        ],
    )

    assert patched == resource


def test_numbers_of_equal_value_are_equal():
    resource = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("5.0")}}
    test = {"op": "test", "path": "/valueQuantity/value", "value": 5}

    assert json_patch.apply(resource, [test]) == resource
