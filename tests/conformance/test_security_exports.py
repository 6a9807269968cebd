"""Exports by backend services: whose they are, what is on record, what a revocation ends."""

from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from fhir_server.core.security.registration import Client
from tests.conformance.export_kit import ASYNC, Exports
from tests.conformance.security_kit import secured_server


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with secured_server(tmp_path_factory.mktemp("secured")) as running:
        token = running.backend().token()
        for name in ("anna", "boris"):
            put(running, token, {"resourceType": "Patient", "id": name})
            put(running, token, observation(name))
        yield running


def put(secured, token, resource):
    answer = requests.put(
        f"{secured.fhir}/{resource['resourceType']}/{resource['id']}",
        json=resource,
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert answer.ok, answer.text


def observation(patient):
    return {
        "resourceType": "Observation", "id": f"{patient}-o", "status": "final",
        "code": {"text": "pulse"}, "subject": {"reference": f"Patient/{patient}"},
    }  # fmt: skip


class Registry:
    """A job of a registry, with a token by its own key."""

    def __init__(self, secured, backend=None, scope="system/*.cruds"):
        self.secured = secured
        self.backend = backend or secured.backend()
        self.token = self.backend.token(scope)
        self.exports = Exports(self.ask)

    def ask(self, method, path, json=None, headers=None):
        url = path if path.startswith("http") else f"{self.secured.fhir}/{path}"
        headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return requests.request(method, url, json=json, headers=headers, timeout=20)


def test_a_backend_service_exports_by_its_key(secured):
    registry = Registry(secured)
    manifest = registry.exports.run("$export?_type=Patient,Observation")
    assert manifest["requiresAccessToken"] is True
    assert registry.exports.keys(manifest) == [
        "Observation/anna-o", "Observation/boris-o", "Patient/anna", "Patient/boris",
    ]  # fmt: skip
    for each in manifest["output"]:
        assert requests.get(each["url"], timeout=10).status_code == 401


def test_a_granular_scope_limits_what_is_exported(secured):
    registry = Registry(secured, scope="system/Observation.rs?patient=Patient/anna")
    assert registry.exports.keys(registry.exports.run("$export")) == ["Observation/anna-o"]


def test_a_later_token_with_the_same_scopes_fetches_and_one_with_less_does_not(secured):
    backend = secured.backend()
    registry = Registry(secured, backend)
    status = registry.exports.begin("$export?_type=Patient,Observation")
    files = {each["type"]: each["url"] for each in registry.exports.wait(status).json()["output"]}
    again = Registry(secured, backend)
    assert again.ask("GET", files["Patient"]).status_code == 200
    less = Registry(secured, backend, "system/Patient.rs")
    assert less.ask("GET", status).status_code == 200
    assert less.ask("GET", files["Observation"]).status_code == 403
    other = Registry(secured)
    for url in (status, *files.values()):
        assert other.ask("GET", url).status_code == 404
    assert other.ask("DELETE", status).status_code == 404


def test_a_revoked_client_fetches_nothing_more(secured):
    registry = Registry(secured)
    (file,) = registry.exports.run("$export?_type=Patient")["output"]
    assert registry.ask("GET", file["url"]).status_code == 200
    secured.registrations.revoke(Client, registry.backend.client_id)
    assert registry.ask("GET", file["url"]).status_code == 401


def events(registry, query):
    answer = registry.ask("GET", f"AuditEvent?_count=200&{query}")
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", ())]


def test_every_step_is_on_record_and_each_patient_sees_who_took_theirs(secured):
    registry = Registry(secured)
    me = registry.backend.client_id

    def mine(query=""):
        return [event for event in events(registry, query) if me in str(event["agent"])]

    chosen = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "_type", "valueString": "Observation"},
            {"name": "patient", "valueReference": {"reference": "Patient/anna"}},
        ],
    }
    status = registry.exports.begin("Patient/$export", chosen, ASYNC)
    manifest = registry.exports.wait(status).json()
    registry.exports.lines(manifest)
    registry.ask("DELETE", status)
    asked = {subtype(event) for event in mine()}
    assert {"operation", "export-status", "export-file", "export-cancel"} <= asked
    assert any(subtype(event) == "operation" for event in mine("patient=Patient/anna"))
    assert mine("patient=Patient/boris") == []


def subtype(event):
    return next((each["code"] for each in event.get("subtype", ()) if "code" in each), "")


def test_nothing_that_is_asked_stands_in_an_address_of_a_file(secured):
    registry = Registry(secured)
    path = "$export?_type=Observation&_typeFilter=Observation%3Fpatient%3Danna"
    for each in registry.exports.run(path)["output"]:
        assert "anna" not in each["url"]
        assert not parse_qsl(urlsplit(each["url"]).query)
