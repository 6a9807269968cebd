"""The CapabilityStatement says what the server does, in valid FHIR."""

from datetime import UTC, datetime

import pytest

from fhir_server import definitions
from fhir_server.core.capability import capability_statement


@pytest.fixture(scope="module")
def loaded():
    return definitions.load()


@pytest.fixture(scope="module")
def statement(loaded):
    return capability_statement(
        loaded.validator.resource_types,
        loaded.parameters,
        ["read", "vread", "update", "delete", "create", "search-type"],
        ["transaction", "batch", "history-system"],
        [("validate", "http://hl7.org/fhir/OperationDefinition/Resource-validate")],
        "http://localhost/fhir",
        datetime(2024, 5, 2, tzinfo=UTC),
        "1.2.3",
        patch_formats=["application/json-patch+json"],
    )


def of_type(statement, name):
    (found,) = [r for r in statement["rest"][0]["resource"] if r["type"] == name]
    return found


def test_it_is_valid(loaded, statement):
    assert loaded.validator.check(statement) == ()


def test_it_is_valid_with_nothing_to_say(loaded):
    empty = capability_statement(
        [], loaded.parameters, [], [], [], "http://x", datetime(2024, 1, 1, tzinfo=UTC), "1"
    )

    assert [issue.expression for issue in loaded.validator.check(empty)] == [
        "CapabilityStatement.rest[0].resource"
    ]


def test_it_names_every_type_once(loaded, statement):
    names = [r["type"] for r in statement["rest"][0]["resource"]]

    assert names == sorted(loaded.validator.resource_types)


def test_it_claims_the_interactions_it_was_given(statement):
    assert [i["code"] for i in of_type(statement, "Patient")["interaction"]] == [
        "read",
        "vread",
        "update",
        "delete",
        "create",
        "search-type",
    ]
    assert statement["rest"][0]["interaction"][0] == {"code": "transaction"}


def test_it_names_parameters_with_their_definitions(statement):
    found = {p["name"]: p for p in of_type(statement, "Observation")["searchParam"]}

    assert found["date"] == {
        "name": "date",
        "definition": "http://hl7.org/fhir/SearchParameter/clinical-date",
        "type": "date",
    }
    assert "_lastUpdated" in found


def test_it_says_what_can_be_included(statement):
    assert "Observation:subject" in of_type(statement, "Observation")["searchInclude"]
    assert "Observation:subject" in of_type(statement, "Patient")["searchRevInclude"]


def test_special_parameters_are_not_claimed(statement):
    names = [p["name"] for p in of_type(statement, "Location")["searchParam"]]

    assert "near" not in names
