"""What the operator's settings change for FHIR clients."""

import socket

import pytest
import requests

PATIENT = {"resourceType": "Patient", "gender": "female"}


@pytest.fixture(scope="module")
def open_server(server):
    return type(server)


def test_trusted_proxy_decides_the_base_url(open_server):
    with open_server(trusted_proxies="127.0.0.1") as running:
        headers = {"X-Forwarded-Host": "ehr.example", "X-Forwarded-Proto": "https"}
        url = f"{running.fhir}/Patient"
        created = requests.post(url, json=PATIENT, headers=headers, timeout=10)
        assert created.headers["Location"].startswith("https://ehr.example/fhir/Patient/")
        found = requests.get(f"{url}?_count=1", headers=headers, timeout=10).json()
        assert found["link"][0]["url"] == "https://ehr.example/fhir/Patient?_count=1"
        statement = requests.get(f"{running.fhir}/metadata", headers=headers, timeout=10).json()
        assert statement["implementation"]["url"] == "https://ehr.example/fhir"


def test_configured_base_url_is_in_every_link(open_server):
    with open_server(base_url="https://ehr.example/r4/") as running:
        observation = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": "https://ehr.example/r4/Patient/1"},
        }
        created = requests.post(f"{running.fhir}/Observation", json=observation, timeout=10)
        assert created.headers["Location"].startswith("https://ehr.example/r4/Observation/")
        assert created.json()["subject"]["reference"] == "Patient/1"


def test_limits_are_the_operators(open_server):
    with open_server(max_body_bytes=1_000, max_bundle_entries=2, max_page_size=3) as running:
        large = {**PATIENT, "name": [{"text": "x" * 1_000}]}
        assert requests.post(f"{running.fhir}/Patient", json=large, timeout=10).status_code == 413

        def endless():
            yield from [b"x" * 600] * 3

        response = requests.post(
            f"{running.fhir}/Patient",
            data=endless(),
            headers={"Content-Type": "application/fhir+json"},
            timeout=10,
        )
        assert response.status_code == 413
        entries = [{"request": {"method": "GET", "url": "metadata"}}] * 3
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        assert requests.post(running.fhir, json=bundle, timeout=10).status_code == 400
        for _ in range(4):
            requests.post(f"{running.fhir}/Patient", json=PATIENT, timeout=10)
        page = requests.get(f"{running.fhir}/Patient?_count=100", timeout=10).json()
        assert len(page["entry"]) == 3


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "gender": "wrong", "foo": 1},
        {"resourceType": "Patient", "contact": "x", "photo": [1]},
        {"resourceType": "Observation", "status": "none", "note": {"text": []}},
    ],
)
@pytest.mark.parametrize("query", ["", "?_summary=true", "?_elements=name"])
def test_lenient_validation_stores_and_says_what_is_wrong(lenient, resource, query):
    response = requests.post(
        f"{lenient.fhir}/{resource['resourceType']}",
        json=resource,
        headers={"Prefer": "return=OperationOutcome"},
        timeout=10,
    )
    assert response.status_code == 201, response.text
    assert response.json()["issue"][0]["expression"]
    url = response.headers["Location"].partition("/_history")[0]
    assert requests.get(url + query, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "name": "x", "identifier": {"system": 1}, "birthDate": 5},
        {"resourceType": "Patient", "identifier": [1, None, "x", {"value": 5}]},
        {"resourceType": "Observation", "subject": "x", "code": [], "effectivePeriod": []},
        {"resourceType": "Observation", "subject": {"reference": 5}, "code": {"coding": {}}},
        {"resourceType": "Patient", "meta": {"tag": 5, "profile": "x", "security": [1]}},
        {"resourceType": "Observation", "component": {"code": 1}},
        {"resourceType": "Patient", "meta": {"lastUpdated": []}, "id": {}},
    ],
)
def test_lenient_validation_refuses_what_could_not_be_found_again(lenient, resource):
    url = f"{lenient.fhir}/{resource['resourceType']}"
    response = requests.post(url, json=resource, timeout=10)
    assert response.status_code in (201, 422), response.text


def test_lenient_validation_refuses_what_cannot_be_versioned(lenient):
    resource = {"resourceType": "Patient", "meta": []}
    response = requests.post(f"{lenient.fhir}/Patient", json=resource, timeout=10)
    assert response.status_code == 422


@pytest.fixture(scope="module")
def lenient(open_server):
    with open_server(validation="warn") as running:
        yield running


def test_client_that_goes_away_in_the_middle_harms_nobody(server, client, caplog):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            b"Content-Type: application/fhir+json\r\n\r\n{"
        )
    assert client.get("metadata").status_code == 200
    assert "unexpected" not in caplog.text
