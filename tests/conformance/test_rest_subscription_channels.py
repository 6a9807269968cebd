"""The channels over HTTP: messages, formats, secrets, refusals and recovery.

https://hl7.org/fhir/R4/subscription.html#2.46.7
"""

import http.server
import json
import logging
import threading
import time

import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.conformance.conftest import Client, Server

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
READINGS = "https://pmp.example/fhir/SubscriptionTopic/reading-accepted"
READING = "https://pmp.example/fhir/NamingSystem/reading"
SECRET = "Bearer open-sesame-4711"


class Endpoint:
    """A subscriber's; `answer` is the status and body of what comes next."""

    def __init__(self):
        self.got = []
        self.answer = (200, b"", {})
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer, headers = outer.answer
                outer.got.append((dict(self.headers), body, status))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_POST  # noqa: N815

            def log_message(self, *_):
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/$process-message"

    def bodies(self):
        return [body for _, body, status in self.got if status < 300]


@pytest.fixture
def endpoint():
    started = Endpoint()
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture(scope="module")
def client():
    with Server(deliver=True, allow_private_endpoints=True, base_url="https://a.example/r4") as s:
        yield Client(s)


def subscribe(client, endpoint, patient, content=None, kind="message", active=True, **channel):
    found = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": f"Observation?patient=Patient/{patient}",
        "channel": {
            "type": kind,
            "endpoint": endpoint.url,
            "payload": "application/fhir+json",
            **channel,
        },
    }
    if content:
        found["channel"]["_payload"] = {
            "extension": [{"url": f"{BACKPORT}payload-content", "valueCode": content}]
        }
    made = client.create(found)
    if active:
        wait_until(lambda: status(client, made) == "active")
    return made


def status(client, made):
    return client.get(f"Subscription/{made['id']}").json()["status"]


def read_a(client, patient):
    return client.create(
        {
            "resourceType": "Observation",
            "identifier": [{"system": READING, "value": f"{patient}{time.time_ns()}"}],
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/{patient}"},
        }
    )


def wait_until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_message_is_led_by_its_header_and_holds_the_resource(client, endpoint, unique):
    subscribe(client, endpoint, unique)
    reading = read_a(client, unique)
    wait_until(lambda: endpoint.bodies())
    message = json.loads(endpoint.bodies()[0])
    Bundle.model_validate(message)
    header, told = (entry["resource"] for entry in message["entry"])
    assert (message["type"], header["resourceType"]) == ("message", "MessageHeader")
    assert header["eventCoding"]["code"] == "subscription-notification"
    assert header["source"]["endpoint"] == "https://a.example/r4"
    assert header["destination"] == [{"endpoint": endpoint.url}]
    assert header["focus"] == [{"reference": f"https://a.example/r4/Observation/{reading['id']}"}]
    assert message["entry"][1]["fullUrl"] == header["focus"][0]["reference"]
    assert told == reading


def test_a_message_of_a_topic_is_about_the_notification(client, endpoint, unique):
    subscribe(client, endpoint, unique, "id-only")
    handshake = json.loads(endpoint.bodies()[0])
    Bundle.model_validate(handshake)
    read_a(client, unique)
    wait_until(lambda: len(endpoint.bodies()) == 2)
    message = json.loads(endpoint.bodies()[1])
    Bundle.model_validate(message)
    header, bundle = (entry["resource"] for entry in message["entry"])
    assert message["entry"][1]["fullUrl"] == header["focus"][0]["reference"]
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "history")


def test_a_message_may_be_xml(client, endpoint, unique):
    subscribe(client, endpoint, unique, "full-resource", payload="application/fhir+xml")
    read_a(client, unique)
    wait_until(lambda: len(endpoint.bodies()) == 2)
    headers, body, _ = endpoint.got[-1]
    assert headers["Content-Type"] == "application/fhir+xml; charset=utf-8"
    assert b"<MessageHeader" in body


def test_a_message_sent_again_is_the_same_message(client, endpoint, unique):
    subscribe(client, endpoint, unique)
    response = {"resourceType": "MessageHeader", "response": {"code": "transient-error"}}
    answer = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": response}]}
    endpoint.answer = (200, json.dumps(answer).encode(), {})
    read_a(client, unique)
    wait_until(lambda: len(endpoint.got) == 2)
    endpoint.answer = (200, b"", {})
    wait_until(lambda: len(endpoint.got) >= 3)
    ids = {json.loads(body)["entry"][0]["resource"]["id"] for _, body, _ in endpoint.got}
    keys = {headers["Idempotency-Key"] for headers, _, _ in endpoint.got}
    assert len(ids) == len(keys) == 1


def test_a_refusal_is_parked_told_and_does_not_stop_the_rest(client, endpoint, unique):
    made = subscribe(client, endpoint, unique, "id-only", kind="rest-hook")
    endpoint.answer = (422, b"", {})
    read_a(client, unique)
    path = f"Subscription/{made['id']}/$status"
    wait_until(lambda: "not taken" in client.get(path).text)
    endpoint.answer = (200, b"", {})
    read_a(client, unique)
    wait_until(lambda: len(endpoint.bodies()) == 2)
    assert status(client, made) == "active"


def test_trouble_is_told_and_what_came_meanwhile_is_sent_when_it_is_over(client, endpoint, unique):
    made = subscribe(client, endpoint, unique, "id-only", kind="rest-hook")
    endpoint.answer = (500, b"", {})
    for _ in range(3):
        read_a(client, unique)
    wait_until(lambda: status(client, made) == "error")
    endpoint.answer = (200, b"", {})
    wait_until(lambda: status(client, made) == "active")
    path = f"Subscription/{made['id']}/$status"
    assert '"valueString":"3"' in client.get(path).text.replace(" ", "")


def test_a_failed_handshake_is_an_error_until_requested_again(client, endpoint, unique):
    endpoint.answer = (400, b"", {})
    made = subscribe(client, endpoint, unique, "empty", kind="rest-hook", active=False)
    wait_until(lambda: status(client, made) == "error")
    endpoint.answer = (200, b"", {})
    again = {**made, "status": "requested"}
    assert client.put(f"Subscription/{made['id']}", again).status_code == 200
    wait_until(lambda: status(client, made) == "active")


def test_the_seconds_of_retry_after_are_waited(client, endpoint, unique):
    subscribe(client, endpoint, unique, "empty", kind="rest-hook")
    endpoint.answer = (503, b"", {"Retry-After": "1"})
    read_a(client, unique)
    wait_until(lambda: endpoint.got[-1][2] == 503)
    asked = time.monotonic()
    endpoint.answer = (200, b"", {})
    wait_until(lambda: len(endpoint.bodies()) == 2)
    assert time.monotonic() - asked > 0.9


def test_headers_are_sent_and_stand_in_no_log_and_no_error(client, endpoint, unique, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint.answer = (400, SECRET.encode(), {})
    made = subscribe(
        client,
        endpoint,
        unique,
        "empty",
        kind="rest-hook",
        active=False,
        header=[f"Authorization: {SECRET}"],
    )
    wait_until(lambda: status(client, made) == "error", 60)
    assert endpoint.got[0][0]["Authorization"] == SECRET
    assert "open-sesame" not in client.get(f"Subscription/{made['id']}").json()["error"]
    assert "open-sesame" not in client.get(f"Subscription/{made['id']}/$status").text
    broken = {**made, "channel": {**made["channel"], "header": [f"Bad Name: {SECRET}"]}}
    refused = client.put(f"Subscription/{made['id']}", broken)
    assert refused.status_code == 422
    assert "open-sesame" not in refused.text
    assert "open-sesame" not in caplog.text
