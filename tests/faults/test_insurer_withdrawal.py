"""A consent is withdrawn over REST while its readings are queued: nothing leaves, ever."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.faults.kit import Server, free_port, running, wait_until

WORKER = Path(__file__).with_name("delivery_worker.py")
IDENTIFIER = {"system": "urn:insurer", "value": "46"}


@contextmanager
def insurer():
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "adapters.insurer.stand_in", "--port", str(port)]
    )
    try:
        wait_until(lambda: answers(url), 30)
        yield url
    finally:
        process.kill()
        process.wait()


def answers(url):
    try:
        return requests.get(f"{url}/received", timeout=1).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def scene(tmp_path):
    with insurer() as url:
        section = {"url": f"{url}/fhir", "identifier": "urn:insurer|46"}
        server = Server(
            tmp_path,
            auth="none",
            adapters=json.dumps({"insurer": section}),
            allow_private_endpoints="1",
        )
        server.insurer = url
        with running(server):
            server.workers = [start_worker(server)]
            try:
                yield server
            finally:
                for worker in server.workers:
                    worker.kill()
                    worker.wait()


def start_worker(server):
    environment = {**os.environ, "FHIR_SERVER_STORE": server.store, **server.settings}
    return subprocess.Popen([sys.executable, str(WORKER)], env=environment)


def put(scene, resource):
    path = f"{scene.url}/fhir/{resource['resourceType']}/{resource['id']}"
    answer = requests.put(path, json=resource, timeout=10)
    assert answer.ok, answer.text
    return answer.json()


def told(scene):
    return requests.get(f"{scene.insurer}/received", timeout=5).json()


def fail(scene, times):
    requests.post(f"{scene.insurer}/faults", json={"status": 503, "times": times}, timeout=5)


def verify(scene):
    code, _ = scene.ended("deliveries", "verify")
    return code


def withheld(scene):
    """What AuditEvents say that the insurer was not given."""
    bundle = scene.get("AuditEvent", patient="Patient/p1", subtype="withheld").json()
    events = [entry["resource"] for entry in bundle.get("entry", ())]
    assert {event["outcomeDesc"] for event in events} <= {"no active consent permits it"}
    references = [each["what"].get("reference", "") for e in events for each in e["entity"]]
    return {each.split("/")[1] for each in references if each.startswith("Observation/")}


def consent(status="active", **provision):
    actor = {"role": {"text": "insurer"}, "reference": {"reference": "Organization/o1"}}
    return {
        "resourceType": "Consent",
        "id": "agreed",
        "status": status,
        "scope": {"text": "privacy"},
        "category": [{"text": "disclosure"}],
        "patient": {"reference": "Patient/p1"},
        "policyRule": {"text": "opt in"},
        "provision": {"type": "permit", "actor": [actor], **provision},
    }


def insure(scene):
    policy = {"system": "https://fhir.ru/ig/core/systems/oms", "value": "7777770000000007"}
    put(scene, {"resourceType": "Patient", "id": "p1", "identifier": [policy]})
    put(scene, {"resourceType": "Organization", "id": "o1", "identifier": [IDENTIFIER]})
    coverage = {
        "resourceType": "Coverage",
        "id": "c1",
        "status": "active",
        "beneficiary": {"reference": "Patient/p1"},
        "payor": [{"reference": "Organization/o1"}],
    }
    put(scene, coverage)


def measure(scene, resource_id):
    observation = {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-10-05T08:00:00+03:00",
    }
    put(scene, observation)


def test_a_withdrawal_stops_what_is_queued_also_over_a_kill(scene):
    insure(scene)
    put(scene, consent())
    fail(scene, 1_000_000)
    for number in range(5):
        measure(scene, f"o{number}")
    wait_until(lambda: told(scene)["requests"])
    put(scene, consent("inactive"))
    scene.workers[0].kill()
    fail(scene, 0)
    scene.workers += [start_worker(scene), start_worker(scene)]
    wait_until(lambda: withheld(scene) == {f"o{number}" for number in range(5)})
    assert told(scene)["resources"] == []
    assert verify(scene) == 0


def test_an_insurer_asks_by_a_task_over_rest(scene):
    insure(scene)
    put(scene, consent(**{"class": [{"code": "Observation"}]}))
    measure(scene, "o1")
    task = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"code": "data-request-query"}]},
        "for": {"reference": "Patient/p1"},
        "requester": {"reference": "Organization/o1"},
        "input": [
            {
                "type": {"coding": [{"code": "data-query"}]},
                "valueString": "Observation?patient=Patient/p1&code=http://loinc.org|8867-4",
            }
        ],
    }
    created = requests.post(f"{scene.url}/fhir/Task", json=task, timeout=10).json()
    path = f"Task/{created['id']}"
    wait_until(lambda: scene.get(path).json()["status"] == "completed")
    output = scene.get(path).json()["output"][0]["valueReference"]["reference"]
    (entry,) = scene.get(output).json()["entry"]
    assert entry["resource"]["id"] == "o1"
