"""CORS: pages of the origins that are set may call, and read what FHIR says in headers."""

import pytest
import requests
from pydantic import ValidationError

from fhir_server.settings import Settings
from tests.conformance.conftest import Server

ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def open_to():
    with Server(cors_origins=(ORIGIN,)) as server:
        yield server.fhir


def preflight(url, origin=ORIGIN, method="PUT", headers="if-match,content-type,prefer"):
    return requests.options(
        url,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        },
        timeout=10,
    )


def test_a_page_of_the_origin_may_ask(open_to):
    answer = preflight(f"{open_to}/Patient/1")
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_page_may_read_what_clients_need(open_to):
    answer = requests.post(
        f"{open_to}/Patient", json={"resourceType": "Patient"},
        headers={"Origin": ORIGIN, "Content-Type": "application/fhir+json"}, timeout=10,
    )  # fmt: skip
    assert answer.status_code == 201
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert {"ETag", "Location", "X-Request-Id"} <= set(exposed.split(", "))
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["X-Request-Id"]


def test_errors_can_be_read_too(open_to):
    answer = requests.get(f"{open_to}/Patient/none", headers={"Origin": ORIGIN}, timeout=10)
    assert answer.status_code == 404
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_other_pages_may_not(open_to, server):
    assert preflight(f"{open_to}/Patient/1", origin="https://evil.example").status_code == 400
    other = requests.get(f"{open_to}/metadata", headers={"Origin": "https://evil"}, timeout=10)
    assert "Access-Control-Allow-Origin" not in other.headers
    none = requests.get(f"{server.fhir}/Patient", headers={"Origin": ORIGIN}, timeout=10)
    assert "Access-Control-Allow-Origin" not in none.headers


def test_origins_are_whole(monkeypatch):
    monkeypatch.setenv("FHIR_SERVER_CORS_ORIGINS", "https://a.example/, http://localhost:3000")
    assert Settings().cors_origins == ("https://a.example", "http://localhost:3000")
    for wrong in ("a.example", "https://a.example/path", "https://"):
        monkeypatch.setenv("FHIR_SERVER_CORS_ORIGINS", wrong)
        with pytest.raises(ValidationError):
            Settings()
