"""Subscriptions by websocket, heard by a client that nobody here wrote.

https://hl7.org/fhir/R4/subscription.html#2.46.7.2
https://hl7.org/fhir/uv/subscriptions-backport/channels.html#websockets
"""

import json
import time
from contextlib import ExitStack

import pytest
from fhir.resources.R4B.bundle import Bundle
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.conformance.conftest import Client, Server

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
READINGS = "https://pmp.example/fhir/SubscriptionTopic/reading-accepted"
READING = "https://pmp.example/fhir/NamingSystem/reading"
KEY = "the same for every process"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One that delivers, and one that only holds sockets, on one store."""
    store = f"sqlite:///{tmp_path_factory.mktemp('sockets')}/fhir.db"
    with ExitStack() as stack:
        yield tuple(
            Client(stack.enter_context(Server(store=store, deliver=deliver, page_key=KEY)))
            for deliver in (True, False)
        )


@pytest.fixture(scope="module")
def client(servers):
    return servers[0]


def subscription(patient, content=None, **channel):
    found = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": f"Observation?patient=Patient/{patient}",
        "channel": {"type": "websocket", "payload": "application/fhir+json", **channel},
    }
    if content:
        found["criteria"] = READINGS
        found["_criteria"] = {
            "extension": [
                {
                    "url": f"{BACKPORT}filter-criteria",
                    "valueString": f"Observation?patient=Patient/{patient}",
                }
            ]
        }
        found["channel"]["_payload"] = {
            "extension": [{"url": f"{BACKPORT}payload-content", "valueCode": content}]
        }
    return found


def subscribe(client, patient, content=None, **channel):
    """The id of a new Subscription that is active."""
    made = client.create(subscription(patient, content, **channel))
    wait_until(lambda: client.get(f"Subscription/{made['id']}").json()["status"] == "active")
    return made["id"]


def read_a(client, patient, text="x"):
    """The id of a new reading."""
    return client.create(
        {
            "resourceType": "Observation",
            "identifier": [{"system": READING, "value": f"{patient}{time.time_ns()}"}],
            "status": "final",
            "code": {"text": text},
            "subject": {"reference": f"Patient/{patient}"},
        }
    )["id"]


def token(client, *ids):
    answer = client.get("Subscription/$get-ws-binding-token?" + "&".join(f"id={i}" for i in ids))
    assert answer.status_code == 200, answer.text
    return {
        p["name"]: next(v for k, v in p.items() if k.startswith("value"))
        for p in answer.json()["parameter"]
    }


def open_socket(client, **more):
    return connect(client.base.replace("http", "ws", 1) + "/websocket", max_size=None, **more)


def told(socket, timeout=10.0):
    """Kind, event numbers and told references of the next notification."""
    bundle = json.loads(socket.recv(timeout=timeout))
    Bundle.model_validate(bundle)
    found = {"events": [], "resources": [e["resource"] for e in bundle["entry"][1:]]}
    for parameter in bundle["entry"][0]["resource"]["parameter"]:
        if parameter["name"] == "notification-event":
            parts = {p["name"]: p for p in parameter["part"]}
            found["events"].append(int(parts["event-number"]["valueString"]))
        else:
            found[parameter["name"]] = next(v for k, v in parameter.items() if k != "name")
    return found


def wait_until(holds, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_r4_binds_by_id_and_is_pinged(client, unique):
    found = subscribe(client, unique)
    with open_socket(client) as socket:
        socket.send(f"bind {found}")
        assert socket.recv(timeout=10) == f"bound {found}"
        read_a(client, unique)
        assert socket.recv(timeout=10) == f"ping {found}"
        read_a(client, "somebody-else")
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.7)


def test_a_token_binds_several_subscriptions_to_one_socket(client, unique):
    ids = [subscribe(client, f"{unique}{n}", "id-only") for n in range(2)]
    given = token(client, *ids)
    assert given["websocket-url"] == client.base.replace("http", "ws", 1) + "/websocket"
    with open_socket(client) as socket:
        socket.send(f"bind-with-token {given['token']}")
        greetings = [told(socket) for _ in ids]
        assert {g["type"] for g in greetings} == {"handshake"}
        assert {g["subscription"]["reference"].rpartition("/")[2] for g in greetings} == set(ids)
        for number, found in enumerate(ids):
            read_a(client, f"{unique}{number}")
            event = told(socket)
            assert event["subscription"]["reference"].endswith(found)
            assert (event["type"], event["events"]) == ("event-notification", [1])


def test_a_token_may_come_in_json(client, unique):
    found = subscribe(client, unique, "full-resource")
    with open_socket(client) as socket:
        said = {"type": "bind-with-token", "payload": {"token": token(client, found)["token"]}}
        socket.send(json.dumps(said))
        assert told(socket)["type"] == "handshake"
        reading = read_a(client, unique)
        assert [each["id"] for each in told(socket)["resources"]] == [reading]


def test_a_socket_of_another_process_hears_in_time(servers, unique):
    """The one that holds the socket neither commits nor delivers."""
    here, there = servers
    found = subscribe(here, unique, "id-only")
    with open_socket(there) as socket:
        socket.send(f"bind-with-token {token(here, found)['token']}")
        assert told(socket)["type"] == "handshake"
        began = time.monotonic()
        for number in range(1, 4):
            read_a(here, unique)
            assert told(socket)["events"] == [number]
        assert time.monotonic() - began < 6


def test_a_nudge_makes_it_milliseconds_in_one_process(client, unique):
    found = subscribe(client, unique, "id-only")
    with open_socket(client) as socket:
        socket.send(f"bind-with-token {token(client, found)['token']}")
        told(socket)
        took = []
        for _ in range(10):
            began = time.monotonic()
            read_a(client, unique)
            told(socket)
            took.append(time.monotonic() - began)
        assert sorted(took)[5] < 0.25


def test_what_came_while_nobody_listened_is_told_to_the_next_socket(servers, unique):
    here, there = servers
    found = subscribe(here, unique, "id-only")
    readings = [read_a(here, unique) for _ in range(5)]
    assert len(readings) == 5
    heard = []
    with open_socket(here) as socket:
        socket.send(f"bind-with-token {token(here, found)['token']}")
        assert told(socket)["type"] == "handshake"
        while len(heard) < 5:
            heard += told(socket)["events"]
        time.sleep(0.3)
    readings = [read_a(here, unique) for _ in range(2)]
    with open_socket(there) as socket:
        socket.send(f"bind-with-token {token(here, found)['token']}")
        greeting = told(socket)
        assert greeting["events-since-subscription-start"] in ("5", "6", "7")
        while len(heard) < 7:
            heard += told(socket)["events"]
    assert heard == [1, 2, 3, 4, 5, 6, 7]


def test_every_socket_of_a_subscription_hears_every_event(servers, unique):
    here, there = servers
    found = subscribe(here, unique, "empty")
    with open_socket(here) as one, open_socket(there) as other:
        for socket in (one, other):
            socket.send(f"bind-with-token {token(here, found)['token']}")
            assert told(socket)["type"] == "handshake"
        for _ in range(6):
            read_a(here, unique)
        for socket in (one, other):
            heard = []
            while len(heard) < 6:
                heard += told(socket)["events"]
            assert heard == [1, 2, 3, 4, 5, 6]


def test_heartbeats_come_while_nothing_happens(client, unique):
    extension = [{"url": f"{BACKPORT}heartbeat-period", "valueUnsignedInt": 5}]
    found = subscribe(client, unique, "empty", extension=extension)
    with open_socket(client) as socket:
        socket.send(f"bind-with-token {token(client, found)['token']}")
        assert told(socket)["type"] == "handshake"
        assert told(socket, 8)["type"] == "heartbeat"


def test_a_socket_is_closed_when_its_subscription_is_switched_off(client, unique):
    found = subscribe(client, unique, "empty")
    with open_socket(client) as socket:
        socket.send(f"bind-with-token {token(client, found)['token']}")
        told(socket)
        off = {**subscription(unique, "empty"), "id": found, "status": "off"}
        assert client.put(f"Subscription/{found}", off).status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd.code == 1000


def test_a_client_that_reads_nothing_delays_nobody(client, unique):
    found = subscribe(client, unique, "full-resource")
    given = token(client, found)["token"]
    with open_socket(client, close_timeout=0.5) as deaf, open_socket(client) as well:
        for socket in (deaf, well):
            socket.send(f"bind-with-token {given}")
        told(well)
        heard = []
        for _ in range(40):
            read_a(client, unique, "x" * 100_000)
        while len(heard) < 40:
            heard += told(well)["events"]
        assert heard == list(range(1, 41))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("bind nobody", "listens"),
        ("bind-with-token abc.def", "expired"),
        ("hello", "expected"),
        ('{"type": "bind-with-token"}', "expected"),
        ("x" * 20_000, "expected"),
    ],
)
def test_what_cannot_be_bound_is_told_and_the_socket_stays(client, said, reason):
    with open_socket(client) as socket:
        for _ in range(2):
            socket.send(said)
            answer = socket.recv(timeout=10)
            assert answer.startswith("error")
            assert reason in answer


def test_data_is_told_only_to_who_has_a_token(client, unique):
    found = subscribe(client, unique, "full-resource")
    with open_socket(client) as socket:
        socket.send(f"bind {found}")
        assert socket.recv(timeout=10).startswith("error this Subscription is bound by")


def test_a_page_of_another_site_is_refused(client):
    with pytest.raises(InvalidStatus) as refused:
        open_socket(client, origin="https://evil.example").close()
    assert refused.value.response.status_code == 403


def test_tokens_are_for_websockets_that_are_there(client):
    hook = subscription("p", type="rest-hook", endpoint="https://a.example/hook")
    made = client.create(hook)["id"]
    for path, status in (
        (f"Subscription/{made}/$get-ws-binding-token", 400),
        ("Subscription/nobody/$get-ws-binding-token", 404),
        ("Subscription/$get-ws-binding-token", 400),
    ):
        assert client.get(path).status_code == status
