"""What comes with the program is read like any resource, and changed by nobody."""

import pytest

from fhir_server.core.resource_json import parse_resource
from fhir_server.definitions import load
from fhir_server.rest.operation_routes import OPERATIONS

OURS = "https://pmp.example/fhir/OperationDefinition/"
R4 = "http://hl7.org/fhir/OperationDefinition/"


def found(client, query):
    response = client.get(query)
    assert response.status_code == 200, response.text
    return [entry["resource"] for entry in response.json().get("entry", ())]


@pytest.fixture(scope="module")
def statement(client):
    return client.get("metadata").json()["rest"][0]


@pytest.fixture(scope="module")
def claimed(statement):
    """By definition: the types that the CapabilityStatement names the operation for."""
    types: dict[str, set[str]] = {}
    for each in statement["resource"]:
        for operation in each.get("operation", ()):
            types.setdefault(operation["definition"], set()).add(each["type"])
    for operation in statement["operation"]:
        types.setdefault(operation["definition"], set())
    return types


def test_every_operation_that_is_claimed_has_its_definition_here(client, claimed):
    own = {url for url in claimed if url.startswith((OURS, R4))}
    assert len(own) > 15
    for url in own:
        (definition,) = found(client, f"OperationDefinition?url={url}")
        assert definition["url"] == url
        assert client.get(f"OperationDefinition/{definition['id']}").json() == definition


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.definition.startswith(OURS)])
def test_our_definitions_say_what_the_operations_are(client, operation):
    (definition,) = found(client, f"OperationDefinition?url={operation.definition}")
    assert definition["code"] == operation.name
    assert definition["affectsState"] == operation.affects_state
    assert set(definition["resource"]) == operation.resource_types
    levels = {level for level in ("system", "type", "instance") if definition[level]}
    assert levels == set(operation.levels)


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.definition.startswith(R4)])
def test_an_operation_of_r4_is_called_as_r4_has_it(client, operation):
    (definition,) = found(client, f"OperationDefinition?url={operation.definition}")
    assert definition["code"] == operation.name
    assert definition["resource"] == ["Resource"] or (
        set(definition["resource"]) == operation.resource_types
    )


def test_every_shipped_definition_is_valid_and_can_be_read(client):
    definitions = load()
    assert len(definitions.shipped) > 50
    for each in definitions.shipped:
        response = client.get(f"{each['resourceType']}/{each['id']}")
        assert response.status_code == 200, each["id"]
        assert response.json()["url"] == each["url"]
        errors = [
            issue
            for issue in definitions.validator.check(parse_resource(response.content))
            if issue.severity in ("error", "fatal")
        ]
        assert errors == [], each["id"]


def test_a_version_is_called_by_the_day_of_the_definition(client):
    response = client.get("OperationDefinition/Patient-everything")
    assert response.headers["ETag"] == 'W/"20191101"'
    again = client.get("OperationDefinition/Patient-everything/_history/20191101")
    assert again.json() == response.json()
    assert client.get("OperationDefinition/Patient-everything/_history/1").status_code == 404
    unchanged = {"If-None-Match": response.headers["ETag"]}
    assert (
        client.get("OperationDefinition/Patient-everything", headers=unchanged).status_code == 304
    )


@pytest.mark.parametrize("name", ["OperationDefinition/adherence", "ConceptMap/loinc-mdc"])
def test_to_change_one_is_refused(client, name):
    whole = client.get(name).json()
    for response in (
        client.send("PUT", name, {**whole, "status": "retired"}),
        client.send("DELETE", name),
        client.post(
            "",
            {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [{"resource": whole, "request": {"method": "PUT", "url": name}}],
            },
        ),
    ):
        assert response.status_code == 405, response.text
        assert client.issues(response)
    assert client.get(name).json() == whole


def test_an_operation_can_be_called_on_a_shipped_definition(client):
    answer = client.get("CodeSystem/mdc-subset/$validate-code?code=150020").json()
    assert answer["parameter"][0] == {"name": "result", "valueBoolean": True}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_a_bundle_reads_one_as_a_request_does(client, kind):
    name = "OperationDefinition/adherence"
    entry = {"request": {"method": "GET", "url": name}}
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
    (answer,) = client.post("", bundle).json()["entry"]
    assert answer["resource"] == client.get(name).json()


def test_patch_and_conditional_writes_do_not_reach_one(client):
    headers = {"Content-Type": "application/json-patch+json"}
    change = [{"op": "replace", "path": "/status", "value": "retired"}]
    name = "OperationDefinition/adherence"
    assert client.send("PATCH", name, change, headers=headers).status_code in (404, 405)
    query = "OperationDefinition?url=https://pmp.example/fhir/OperationDefinition/adherence"
    assert client.send("DELETE", query).status_code < 500
    assert client.get(name).json()["status"] == "active"
