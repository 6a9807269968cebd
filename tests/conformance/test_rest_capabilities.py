"""What the server claims it does. https://hl7.org/fhir/R4/http.html#capabilities."""

import pytest

from fhir_server.definitions import load


@pytest.fixture(scope="module")
def statement(client):
    response = client.get("metadata")
    assert response.status_code == 200
    return response.json()


def test_statement_is_valid(statement):
    assert load().validator.check(statement) == ()


def test_statement_says_what_this_is(client, statement):
    assert statement["fhirVersion"] == "4.0.1"
    assert statement["implementation"]["url"] == client.base
    assert "application/fhir+json" in statement["format"]


def test_every_type_is_claimed(statement):
    types = {resource["type"] for resource in statement["rest"][0]["resource"]}
    assert types == load().validator.resource_types
    assert len(types) > 140


def test_every_claimed_type_can_be_searched_and_has_a_history(client, statement):
    for resource in statement["rest"][0]["resource"]:
        claimed = {interaction["code"] for interaction in resource["interaction"]}
        assert claimed == {
            "read",
            "vread",
            "update",
            "patch",
            "delete",
            "create",
            "search-type",
            "history-type",
            "history-instance",
        }
        for path in (f"{resource['type']}?_count=1", f"{resource['type']}/_history?_count=1"):
            response = client.get(path)
            assert response.status_code == 200, (path, response.text)


def test_every_claimed_parameter_is_understood(client, statement):
    values = {
        "token": "x",
        "string": "x",
        "date": "2024",
        "reference": "1",
        "uri": "urn:x",
        "number": "1",
        "quantity": "1",
    }
    strict = {"Prefer": "handling=strict"}
    for resource in statement["rest"][0]["resource"]:
        if resource["type"] not in ("Patient", "Observation", "Device", "CarePlan", "Task"):
            continue
        for parameter in resource["searchParam"]:
            if parameter["type"] not in values:
                continue
            query = f"{resource['type']}?{parameter['name']}={values[parameter['type']]}"
            response = client.get(f"{query}&_count=1", headers=strict)
            assert response.status_code == 200, (query, response.text)


def test_what_the_system_is_claimed_to_do_is_done(client, statement):
    claimed = {interaction["code"] for interaction in statement["rest"][0]["interaction"]}
    assert claimed == {"transaction", "batch", "search-system", "history-system"}
    assert client.get("_history?_count=1").status_code == 200
