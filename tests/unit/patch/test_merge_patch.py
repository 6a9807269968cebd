"""Merge patch: https://www.rfc-editor.org/rfc/rfc7396."""

import copy

import pytest

from fhir_server.core import resource_json
from fhir_server.core.patch import merge_patch
from fhir_server.errors import InvalidRequest, InvalidResource, TooCostly

PATIENT = {
    "resourceType": "Patient",
    "id": "1",
    "meta": {"versionId": "3", "tag": [{"code": "x"}]},
    "birthDate": "2000",
    "name": [{"given": ["A", "B"]}],
    "maritalStatus": {"text": "x", "coding": [{"code": "M"}]},
}


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({}, {}),
        ({"birthDate": "2001"}, {"birthDate": "2001"}),
        ({"birthDate": None}, {"birthDate": ...}),
        ({"nothing": None}, {}),
        ({"name": [{"given": ["C"]}]}, {"name": [{"given": ["C"]}]}),
        ({"name": []}, {"name": ...}),
        (
            {"maritalStatus": {"text": "y"}},
            {"maritalStatus": {"text": "y", "coding": [{"code": "M"}]}},
        ),
        ({"maritalStatus": {"text": None, "coding": None}}, {"maritalStatus": ...}),
        ({"birthDate": {"a": {"b": None, "c": 1}}}, {"birthDate": {"a": {"c": 1}}}),
        ({"meta": {"tag": None}}, {"meta": {"versionId": "3"}}),
        ({"id": "1", "resourceType": "Patient"}, {}),
    ],
)
def test_what_is_sent_replaces_and_null_removes(patch, changed):
    before = copy.deepcopy((PATIENT, patch))
    expected = {n: v for n, v in {**PATIENT, **changed}.items() if v is not ...}

    assert merge_patch.apply(PATIENT, patch) == expected
    assert (PATIENT, patch) == before


def test_decimals_keep_their_digits_after_a_merge():
    resource = resource_json.parse_resource(
        b'{"resourceType":"Observation","valueQuantity":{"value":1.50,"unit":"kg"}}'
    )
    patch = resource_json.parse(b'{"valueQuantity":{"unit":"g"}}')

    assert b'"value":1.50,"unit":"g"' in resource_json.format(merge_patch.apply(resource, patch))


@pytest.mark.parametrize("patch", [[], None, "x", 1])
def test_what_is_no_object_is_an_invalid_request(patch):
    with pytest.raises(InvalidRequest):
        merge_patch.apply(PATIENT, patch)


@pytest.mark.parametrize("patch", [{"id": "2"}, {"id": None}, {"resourceType": "Person"}])
def test_a_resource_stays_the_one_it_is(patch):
    with pytest.raises(InvalidResource):
        merge_patch.apply(PATIENT, patch)


def test_a_patch_nested_without_end_is_refused():
    patch = {"a": 1}
    for _ in range(800):
        patch = {"a": patch}

    with pytest.raises(TooCostly):
        merge_patch.apply(PATIENT, patch)
