"""Subscriptions tell whom they are for what they may see at the moment it is told."""

import http.server
import itertools
import json
import threading
import time

import pytest

from tests.conformance.access_scene import ByHeader, World, consent, directory, observation, record
from tests.conformance.conftest import Server

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
_numbers = itertools.count(1)


class Endpoint:
    """Takes notifications, or says 503 while it is shut."""

    def __init__(self) -> None:
        self.is_shut = False
        self.told: list[str] = []
        self.tries = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.tries += 1
                if not outer.is_shut:
                    outer.told += _named(body)
                self.send_response(503 if outer.is_shut else 204)
                self.end_headers()

            def log_message(self, *_):
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _named(body: bytes) -> list[str]:
    entries = json.loads(body).get("entry", ()) if body else ()
    return [
        entry["resource"]["id"]
        for entry in entries
        if entry.get("resource", {}).get("resourceType") == "Observation"
    ]


@pytest.fixture(scope="module")
def world():
    settings = {
        "plan_templates": False,
        "validation": "warn",
        "views_seconds": 0,
        "deliver": True,
        "allow_private_endpoints": True,
    }
    with Server(ByHeader(), store="sqlite:///:memory:", **settings) as server:
        world = World(server)
        world.put(*directory())
        yield world


@pytest.fixture
def endpoint():
    found = Endpoint()
    yield found
    found.close()


@pytest.fixture
def patients(world) -> tuple[str, str]:
    """One of `dr` and one of `dx`."""
    names = f"a{next(_numbers)}", f"b{next(_numbers)}"
    for name, doctor in zip(names, ("dr", "dx"), strict=True):
        world.put(*record(name, f"Family{name}", doctor, 60))
    return names


def subscribe(world: World, who: str, endpoint: Endpoint, criteria: str, **more: object) -> str:
    resource = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint.url,
            "payload": "application/fhir+json",
            "_payload": {
                "extension": [{"url": f"{BACKPORT}payload-content", "valueCode": "full-resource"}]
            },
        },
        **more,
    }
    answer = world.ask(who, "POST", "Subscription", resource)
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["id"]
    wait(lambda: world.ask(who, "GET", f"Subscription/{name}").json()["status"] == "active")
    return name


def wait(holds, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def test_events_are_of_what_the_subscriber_may_see(world, endpoint, patients):
    mine, other = patients
    subscribe(world, "physician", endpoint, "Observation?code=pulse")
    world.put(observation(f"{other}-e", other), observation(f"{mine}-e", mine))
    wait(lambda: f"{mine}-e" in endpoint.told)
    world.put(observation(f"{other}-f", other), observation(f"{mine}-f", mine))
    wait(lambda: f"{mine}-f" in endpoint.told)
    assert endpoint.told == [f"{mine}-e", f"{mine}-f"]


def test_nobody_subscribes_in_anothers_name(world, endpoint, patients):
    mine, other = patients
    theirs = subscribe(world, "hospital", endpoint, f"Observation?patient={mine}")
    forged = world.ask("hospital", "GET", f"Subscription/{theirs}").json()
    claims = {"meta": {"tag": forged["meta"]["tag"]}, "extension": forged["extension"]}
    endpoint.told.clear()
    name = subscribe(world, "physician", endpoint, "Observation?code=pulse", **claims)
    world.put(observation(f"{other}-e", other), observation(f"{mine}-e", mine))
    wait(lambda: endpoint.told.count(f"{mine}-e") == 2)
    assert f"{other}-e" not in endpoint.told
    # Nor is it another's to see, or to change.
    for who in ("colleague", "patient"):
        assert world.ask(who, "GET", f"Subscription/{name}").status_code == 404
        assert world.ask(who, "GET", f"Subscription/{name}/$events").status_code == 404
    added = {
        "resourceType": "Parameters",
        "parameter": [{"name": "meta", "valueMeta": {"tag": forged["meta"]["tag"]}}],
    }
    world.ask("physician", "POST", f"Subscription/{name}/$meta-add", added)
    kept = world.ask("physician", "GET", f"Subscription/{name}").json()
    assert kept["extension"] != forged["extension"]
    assert kept["meta"]["tag"] != forged["meta"]["tag"]


def test_criteria_lead_to_nothing_that_is_hidden(world, endpoint, patients):
    mine, other = patients
    subscribe(world, "physician", endpoint, f"Observation?performer:Patient.name=Family{other}")
    subscribe(world, "physician", endpoint, f"Observation?patient.name=Family{mine}")
    performer = [{"reference": f"Patient/{other}"}]
    world.put(observation(f"{mine}-e", mine, performer=performer))
    world.put(observation(f"{mine}-f", mine))
    wait(lambda: f"{mine}-f" in endpoint.told)
    assert endpoint.told == [f"{mine}-e", f"{mine}-f"]


def test_what_was_queued_is_not_told_after_a_withdrawal(world, endpoint, patients):
    mine, _ = patients
    name = subscribe(world, "physician", endpoint, f"Observation?patient={mine}")
    endpoint.is_shut = True
    begun = endpoint.tries
    world.put(observation(f"{mine}-e", mine))
    wait(lambda: endpoint.tries > begun)
    world.put(consent(f"{mine}-n", mine, "deny"))
    endpoint.is_shut = False

    def is_settled() -> bool:
        told = world.server.outbox.list(f"Subscription/{name}", (), 10, 0)
        return [each.state.value for each in told] == ["withheld"]

    wait(is_settled)
    assert endpoint.told == []
    events = world.ask("physician", "GET", f"Subscription/{name}/$events").json()
    assert f"{mine}-e" not in json.dumps(events)


def test_events_told_once_more_are_those_that_may_be_seen_now(world, endpoint, patients):
    mine, _ = patients
    name = subscribe(world, "physician", endpoint, f"Observation?patient={mine}")
    world.put(observation(f"{mine}-e", mine))
    wait(lambda: endpoint.told == [f"{mine}-e"])
    events = world.ask("physician", "GET", f"Subscription/{name}/$events")
    assert f"{mine}-e" in events.text
    world.put(consent(f"{mine}-n", mine, "deny"))
    events = world.ask("physician", "GET", f"Subscription/{name}/$events")
    assert events.status_code == 200
    assert f"{mine}-e" not in events.text
