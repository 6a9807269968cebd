"""With tokens: the trail says who asked and with which token, and holds refusals at the gate."""

import pytest

from tests.conformance.security_kit import secured_server


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with secured_server(tmp_path_factory.mktemp("secured")) as running:
        yield running


@pytest.fixture(scope="module")
def backend(secured):
    return secured.backend()


def latest(secured, token, query):
    bundle = secured.get(f"/fhir/AuditEvent?{query}&_sort=-date&_count=1", token).json()
    return bundle["entry"][0]["resource"]


def test_accesses_are_on_record_without_being_asked_for(secured, backend):
    token = backend.token()
    made = secured.post("/fhir/Patient", token, json={"resourceType": "Patient"}).json()
    secured.get(f"/fhir/Patient/{made['id']}", token)
    event = latest(secured, token, f"patient={made['id']}")
    client = event["agent"][0]
    assert event["action"] == "R"
    assert client["who"]["identifier"]["value"] == backend.client_id
    assert client["policy"][0].startswith("https://pmp.example/fhir/NamingSystem/access-token-id/")
    assert token not in str(event)


def test_who_is_refused_at_the_gate_is_on_record(secured, backend):
    assert secured.get("/fhir/Patient/refused-at-the-gate").status_code == 401
    assert secured.get("/fhir/Patient/refused-at-the-gate", "made-up").status_code == 401
    event = latest(secured, backend.token(), "patient=refused-at-the-gate")
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "HTTP 401")
    assert event["agent"][0]["who"] == {"display": "anonymous"}
