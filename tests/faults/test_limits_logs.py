"""Logs: a whole scene with marked secrets and patients, and none of it in what is written."""

import json

import pytest
import requests

from tests.faults.kit import Server, running

MARK = "Zx9Secret"
NAME = f"{MARK}Family"
NUMBER = f"{MARK}Snils"
NOTE = f"{MARK}Note"
TOKEN = f"{MARK}Token"
PASSWORD = f"{MARK}Password"
PAGE_KEY = f"{MARK}PageKey"
HEADERS = {"Content-Type": "application/fhir+json", "Authorization": f"Bearer {TOKEN}"}

PATIENT = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:snils", "value": NUMBER}],
    "name": [{"family": NAME}],
    "text": {"status": "generated", "div": f"<div>{NOTE}</div>"},
}
TRACING = {
    "resourceType": "StructureDefinition", "url": "urn:tracing", "name": "Tracing",
    "status": "active", "kind": "resource", "abstract": False, "type": "Patient",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
    "derivation": "constraint",
    "differential": {"element": [{"id": "Patient", "path": "Patient", "constraint": [
        {"key": "t-1", "severity": "warning", "human": "always",
         "expression": "name.trace('it').exists()"}]}]},
}  # fmt: skip


def scene(url):
    """What a day brings, and what goes wrong in it; the answers' texts."""
    fhir = f"{url}/fhir"

    def send(method, path, body=None, **more):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return requests.request(
            method, f"{fhir}/{path}", data=data, headers={**HEADERS, **more}, timeout=20
        )

    assert send("POST", "StructureDefinition", TRACING).status_code == 201
    made = send("POST", "Patient", PATIENT)
    assert made.status_code == 201
    made_id = made.json()["id"]
    traced = {**PATIENT, "meta": {"profile": ["urn:tracing"]}}
    assert send("POST", "Patient", traced).status_code == 201
    faults = [
        send("GET", f"Patient?name[$ne]={NAME}", Prefer="handling=strict"),
        send("GET", f"Patient?birthdate={NAME}"),
        send("GET", f"Patient?_filter=name {NAME} {NUMBER}"),
        send("GET", f"Observation?value-quantity={NUMBER}"),
        send("GET", f"Patient?_page={NAME}"),
        send("PUT", f"Patient/{made_id}", {**PATIENT, "birthDate": NOTE}),
        send("PUT", f"Patient/{made_id}", {**PATIENT, "gender": NOTE}),
        send("PUT", f"Patient/{made_id}", {**PATIENT, "id": made_id, NOTE + " x": 1}),
        send("POST", "Patient", f'{{"name": "{NAME}'.encode()),
        send("POST", "Patient", f"<{NAME}/>".encode(), **{"Content-Type": "application/fhir+xml"}),
        send("POST", "Patient", PATIENT, **{"If-None-Exist": f"nothing={NUMBER}"}),
        send("PUT", f"Patient/{made_id}", PATIENT, **{"If-Match": f'W/"{NUMBER}"'}),
        send("GET", "Patient", **{"Accept": f"text/{NAME}"}),
        send("POST", "Observation", {"resourceType": "Observation", "subject": {"display": NAME}}),
        send("POST", "", {"resourceType": "Bundle", "type": "transaction",
                          "entry": [{"request": {"method": "POST", "url": NAME},
                                     "resource": PATIENT}]}),
        requests.post(f"{url}/readings/iot-hub", json={"device": NUMBER, "type": NAME}, timeout=20),
        requests.post(f"{url}/readings/{NAME}", json={}, timeout=20),
    ]  # fmt: skip
    assert send("GET", f"Patient?name={NAME}").json()["entry"]
    assert send("GET", f"Patient?identifier=urn:snils|{NUMBER}").json()["entry"]
    assert send("GET", f"Patient/{NAME}").status_code == 404
    assert send("GET", f"{NAME}").status_code in (400, 404)
    assert send("DELETE", f"Patient/{made_id}").status_code in (200, 204)
    return faults


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_whole_scene_leaves_no_patient_and_no_secret_in_the_log(tmp_path, log_format):
    server = Server(
        tmp_path,
        auth="none",
        log_level="debug",
        log_format=log_format,
        page_key=PAGE_KEY,
        mqtt_password=PASSWORD,
    )
    with running(server):
        faults = scene(server.url)
        metrics = requests.get(f"{server.url}/metrics", timeout=10).text
    log = server.log.read_text("utf-8")
    assert log.count("search-type") >= 3, "the log was not written"
    found = [line for line in log.splitlines() if MARK in line]
    assert found == []
    assert MARK not in metrics
    assert "TRACE" not in log
    # An answer may repeat to who asked what was asked, but not what is stored.
    for answer in faults:
        assert answer.status_code < 500
        assert TOKEN not in answer.text
        assert PASSWORD not in answer.text
        assert PAGE_KEY not in answer.text
