"""A client that was revoked is told nothing more, by a process that only delivers either."""

import subprocess
import sys
from contextlib import contextmanager

import pytest
import requests

from fhir_server.core.security.registration import Client
from tests.conformance.security_kit import secured_server
from tests.conformance.server_process import environment
from tests.faults.kit import free_port, wait_until
from tests.faults.subscription_scene import REPOSITORY


@contextmanager
def child(*command, **variables):
    process = subprocess.Popen([sys.executable, *map(str, command)], env=environment(**variables))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def secured(tmp_path):
    with secured_server(tmp_path, deliver=False, allow_private_endpoints=True) as found:
        yield found


def subscribe(secured, token, endpoint):
    resource = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": "Observation?status=final",
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
        },
    }
    answer = secured.post("/fhir/Subscription", token, json=resource)
    assert answer.status_code == 201, answer.text
    path = f"/fhir/Subscription/{answer.json()['id']}"
    wait_until(lambda: secured.get(path, token).json()["status"] == "active", 90)


def reading():
    return {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}}


def test_a_revoked_client_is_told_nothing_more(secured, tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    delivering = {
        "FHIR_SERVER_STORE": f"sqlite:///{tmp_path}/fhir.db",
        "FHIR_SERVER_AUTH": "smart",
        "FHIR_SERVER_ALLOW_PRIVATE_ENDPOINTS": "1",
    }

    def told(path):
        return len(requests.get(f"{url}/journal", params={"path": path}, timeout=5).json())

    with (
        child(REPOSITORY / "tests/faults/rest_hook_receiver.py", port),
        child("-m", "fhir_server", "deliver", **delivering),
    ):
        going, staying = secured.backend("going"), secured.backend("staying")
        token = staying.token()
        subscribe(secured, going.token(), f"{url}/going")
        subscribe(secured, token, f"{url}/staying")
        assert secured.post("/fhir/Observation", token, json=reading()).status_code == 201
        wait_until(lambda: told("/going") == told("/staying") == 1, 60)
        # Nor what is queued already: it waits, for the endpoint says 503.
        requests.post(f"{url}/control", json={"path": "/going", "status": 503}, timeout=5)
        secured.post("/fhir/Observation", token, json=reading())
        wait_until(lambda: told("/staying") == 2 and told("/going") >= 2, 60)
        secured.registrations.revoke(Client, "going")
        requests.post(f"{url}/control", json={"path": "/going", "status": 200}, timeout=5)
        before = told("/going")
        for count in (3, 4):
            secured.post("/fhir/Observation", token, json=reading())
            wait_until(lambda count=count: told("/staying") == count, 60)
        assert told("/going") == before
