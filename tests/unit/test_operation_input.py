"""Inputs of operations: the same from a URL and from a Parameters."""

from decimal import Decimal

import pytest

from fhir_server.core import operation_input
from fhir_server.errors import InvalidRequest


def of(*parameters):
    return operation_input.of_resource({"resourceType": "Parameters", "parameter": [*parameters]})


def test_simple_values_are_texts_however_they_came():
    from_url = operation_input.of_params((("a", "1"), ("b", "true"), ("c", "1.50")))
    from_body = of(
        {"name": "a", "valueInteger": 1},
        {"name": "b", "valueBoolean": True},
        {"name": "c", "valueDecimal": Decimal("1.50")},
    )
    assert from_url.params() == from_body.params()
    assert from_body.text("b") == "true"
    assert from_body.text("d") is None


def test_values_with_elements_come_whole():
    inputs = of({"name": "meta", "valueMeta": {"tag": []}})
    assert inputs.objects("meta") == ({"tag": []},)
    with pytest.raises(InvalidRequest):
        inputs.text("meta")
    with pytest.raises(InvalidRequest):
        operation_input.of_params((("meta", "x"),)).objects("meta")


def test_one_is_not_several():
    with pytest.raises(InvalidRequest):
        operation_input.of_params((("a", "1"), ("a", "2"))).text("a")


@pytest.mark.parametrize(
    ("parameter", "path"),
    [
        ({}, "Parameters.parameter[0]"),
        ({"name": "a"}, "Parameters.parameter[0]"),
        ({"name": "a", "valueString": "x", "valueCode": "y"}, "Parameters.parameter[0]"),
        ("a", "Parameters.parameter[0]"),
    ],
)
def test_a_fault_is_told_with_its_path(parameter, path):
    with pytest.raises(InvalidRequest) as refusal:
        of(parameter)
    assert refusal.value.issues[0].expression == path


def test_an_unknown_input_is_refused():
    with pytest.raises(InvalidRequest, match="known: b"):
        operation_input.of_params((("a", "1"),)).check_known("b")
