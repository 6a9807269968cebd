"""Gateways: a key lets in readings of its mappings, its devices and its rate, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fhir_server.core.security.registration import Gateway
from tests.conformance.security_kit import secured_server

EXAMPLES = Path(__file__).parents[2] / "mappings/iot-hub/examples"
PAYLOAD = json.loads((EXAMPLES / "blood-pressure.payload.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with secured_server(tmp_path_factory.mktemp("secured")) as running:
        yield running


def gateway(secured, name, **bound):
    secured.registrations.add(Gateway(name=name, **bound))
    return secured.registrations.renew_gateway_key(name)


def test_a_key_lets_in_readings_and_nothing_else(secured):
    key = gateway(secured, "hub")
    answer = secured.post("/readings/iot-hub", key, json=PAYLOAD)
    assert answer.status_code == 200, answer.text
    for path in ("/fhir/Patient", "/readings/quarantine", "/metrics", "/nothing", "/fhir"):
        headers = {"X-Forwarded-For": "203.0.113.7"}
        refused = secured.get(path, key, headers=headers)
        assert refused.status_code == 403, path
        assert "insufficient_scope" in refused.headers["WWW-Authenticate"]
    for path in (
        "/enrolments/device-kit",
        "/readings/quarantine/reprocess",
        "/readings/",
        "/readings/iot-hub/x",
        "/fhir/Observation",
    ):
        assert secured.post(path, key, json={}).status_code == 403, path


def test_a_key_is_for_its_mappings(secured):
    key = gateway(secured, "cgm-hub", mappings=("cgm",))
    assert secured.post("/readings/iot-hub", key, json=PAYLOAD).status_code == 403
    assert secured.post("/readings/no-such", key, json=PAYLOAD).status_code == 403


def test_another_gateways_device_is_kept_aside(secured):
    key = gateway(secured, "other", devices=("urn:of-another|1",))
    answer = secured.post("/readings/iot-hub", key, json=PAYLOAD).json()
    assert {each.get("reason") for each in answer["results"]} == {"device-not-of-gateway"}
    assert answer["accepted"] == 0
    # Of a device that is bound it is what it always was.
    key = gateway(secured, "own", devices=("urn:of-another|1", f"|{PAYLOAD['device']}"))
    answer = secured.post("/readings/iot-hub", key, json=PAYLOAD).json()
    assert "device-not-of-gateway" not in {each.get("reason") for each in answer["results"]}


def test_a_gateway_that_sends_too_much_waits(secured):
    key = gateway(secured, "fast", per_minute=3)
    lines = "\n".join(json.dumps(PAYLOAD) for _ in range(6))
    headers = {"Content-Type": "application/x-ndjson"}
    # What was begun is taken whole.
    assert secured.post("/readings/iot-hub", key, data=lines, headers=headers).status_code == 200
    refused = secured.post("/readings/iot-hub", key, json=PAYLOAD)
    assert refused.status_code == 429
    assert 60 <= int(refused.headers["Retry-After"]) <= 90
    assert refused.json()["issue"][0]["code"] == "throttled"
    other = gateway(secured, "calm", per_minute=3)
    assert secured.post("/readings/iot-hub", other, json=PAYLOAD).status_code == 200


def test_a_rotated_key_is_void_at_once_and_an_overlapping_one_later(secured):
    old = gateway(secured, "turned")
    assert secured.post("/readings/iot-hub", old, json=PAYLOAD).status_code == 200
    new = secured.registrations.renew_gateway_key("turned")
    assert secured.post("/readings/iot-hub", old, json=PAYLOAD).status_code == 401
    assert secured.post("/readings/iot-hub", new, json=PAYLOAD).status_code == 200


def test_a_revoked_gateway_is_out_with_the_next_request(secured):
    key = gateway(secured, "gone")
    assert secured.post("/readings/iot-hub", key, json=PAYLOAD).status_code == 200
    secured.registrations.revoke(Gateway, "gone")
    assert secured.post("/readings/iot-hub", key, json=PAYLOAD).status_code == 401


def test_a_key_of_another_or_a_guess_is_no_key(secured):
    key = gateway(secured, "guessed")
    mark, name, secret = key.split(".")
    gateway(secured, "guesser")
    for wrong in (
        f"{mark}.guesser.{secret}",
        f"{mark}.{name}.{secret[:-1]}",
        f"{mark}.{name}.",
        f"{mark}..{secret}",
        f"{mark}.{name}.{secret}.x",
        f"{mark}.nobody.{secret}",
    ):
        assert secured.post("/readings/iot-hub", wrong, json=PAYLOAD).status_code == 401, wrong


def test_a_keys_hash_is_all_that_is_kept(secured):
    key = gateway(secured, "hashed")
    kept = secured.store.find("gateway", "hashed")
    assert key.rpartition(".")[2] not in json.dumps(kept)
    assert kept["keys"]


def test_a_change_of_what_a_gateway_may_send_is_heeded_at_once(secured):
    key = gateway(secured, "bound")
    assert secured.post("/readings/iot-hub", key, json=PAYLOAD).status_code == 200
    secured.registrations.change(Gateway, "bound", lambda was: replace(was, mappings=("cgm",)))
    assert secured.post("/readings/iot-hub", key, json=PAYLOAD).status_code == 403
