"""Subscriptions over HTTP: refused when they cannot be served, told of by $status and $events.

https://hl7.org/fhir/R4/subscription.html
"""

import http.server
import json
import threading
import time

import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.conformance.conftest import Client, Server

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
READINGS = "https://pmp.example/fhir/SubscriptionTopic/reading-accepted"


@pytest.fixture(scope="module")
def endpoint():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            return

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}/hook"
    listening.shutdown()
    listening.server_close()


@pytest.fixture(scope="module")
def delivering():
    with Server(deliver=True, allow_private_endpoints=True) as running:
        yield Client(running)


def subscription(criteria, endpoint="https://a.example/hook", content=None):
    found = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
        },
    }
    if content:
        found["channel"]["_payload"] = {
            "extension": [{"url": f"{BACKPORT}payload-content", "valueCode": content}]
        }
    return found


def reading(patient):
    return {
        "resourceType": "Observation",
        "identifier": [
            {"system": "https://pmp.example/fhir/NamingSystem/reading", "value": patient}
        ],
        "status": "final",
        "code": {"text": "x"},
    }


def parameters(resource):
    return {
        p["name"]: next((v for k, v in p.items() if k.startswith("value")), p.get("part"))
        for p in resource["parameter"]
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"criteria": "Observation?colour=red"}, "Subscription.criteria"),
        ({"criteria": "https://pmp.example/fhir/SubscriptionTopic/none"}, "Subscription.criteria"),
        ({"status": "active"}, "Subscription.status"),
        (
            {"channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1/"}},
            "Subscription.channel.endpoint",
        ),
        ({"channel": {"type": "email", "endpoint": "mailto:a@a.example"}}, "channel.type"),
    ],
)
def test_a_subscription_that_cannot_be_served_is_refused(client, change, path):
    response = client.post("Subscription", {**subscription("Observation?"), **change})
    assert response.status_code == 422
    assert any(path in issue["expression"][0] for issue in client.issues(response))


def test_a_subscription_is_refused_in_a_transaction_too(client):
    entry = {
        "resource": subscription("Observation?colour=red"),
        "request": {"method": "POST", "url": "Subscription"},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert client.post("", bundle).status_code == 422


def test_events_are_numbered_and_can_be_asked_for_again(delivering, endpoint):
    client = delivering
    made = client.create(subscription(READINGS, endpoint, "id-only"))
    assert made["status"] == "requested"
    path = f"Subscription/{made['id']}"
    references = []
    for number in range(4):
        found = client.create(reading(f"r{number}"))
        references.append(f"{client.base}/Observation/{found['id']}")

    def standing():
        bundle = client.get(f"{path}/$status").json()
        Bundle.model_validate(bundle)
        assert bundle["type"] == "searchset"
        return parameters(bundle["entry"][0]["resource"])

    deadline = time.monotonic() + 30
    while standing()["events-since-subscription-start"] != "4" or (
        client.get(path).json()["status"] != "active"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    now = standing()
    assert (now["status"], now["type"], now["topic"]) == ("active", "query-status", READINGS)

    answer = client.get(f"{path}/$events?eventsSinceNumber=2&eventsUntilNumber=3")
    assert answer.status_code == 200
    Bundle.model_validate(answer.json())
    told = [
        {part["name"]: part.get("valueString") or part.get("valueReference") for part in p["part"]}
        for p in answer.json()["entry"][0]["resource"]["parameter"]
        if p["name"] == "notification-event"
    ]
    assert [(each["event-number"], each["focus"]["reference"]) for each in told] == [
        ("2", references[1]),
        ("3", references[2]),
    ]
    # Never more than the subscription is told.
    more = client.get(f"{path}/$events?content=full-resource").json()
    assert len(more["entry"]) == 1
    less = client.get(f"{path}/$events?content=empty").json()
    assert references[0] not in json.dumps(less)


def test_status_of_all_is_narrowed_by_id_and_status(delivering, endpoint):
    client = delivering
    first, second = (client.create(subscription("Patient?", endpoint)) for _ in range(2))
    for path, expected in (
        (f"Subscription/$status?id={first['id']}", {first["id"]}),
        (f"Subscription/$status?id={first['id']}&id={second['id']}", {first["id"], second["id"]}),
        (f"Subscription/$status?id={first['id']}&status=off", set()),
    ):
        bundle = client.get(path).json()
        references = {
            parameters(entry["resource"])["subscription"]["reference"].rpartition("/")[2]
            for entry in bundle.get("entry", ())
        }
        assert references == expected
    assert client.get("Subscription/$status").json()["total"] >= 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Subscription/nobody/$status", 404),
        ("Subscription/nobody/$events", 404),
        ("Patient/nobody/$events", 404),
        ("Subscription/nobody/$events?eventsSinceNumber=x", 400),
        ("Subscription/nobody/$events?content=all", 400),
        ("Subscription/nobody/$events?since=1", 400),
    ],
)
def test_what_is_asked_wrongly_is_told(client, path, status):
    assert client.get(path).status_code == status
