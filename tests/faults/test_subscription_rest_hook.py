"""Subscribers are told of everything, in order, whatever happens on the way.

Real processes: the subscriber's endpoint and the delivery workers, over real HTTP and one
store file.
"""

import random
import time
from collections import defaultdict

import pytest

from fhir_server.core.identity import ResourceKey
from tests.faults.subscription_scene import (
    BASE,
    TOPICS,
    Scene,
    by_topic,
    free_port,
    numbers,
    plain,
    reading,
    told,
    wait_until,
)


@pytest.fixture
def scene(tmp_path):
    opened = Scene(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that break nothing: each has subscriptions and a patient of its own."""
    opened = Scene(tmp_path_factory.mktemp("shared"))
    opened.start_receiver()
    opened.start_worker()
    yield opened
    opened.close()


def test_r4_puts_each_matching_resource_with_the_headers_asked_for(shared):
    shared.activate(
        plain(
            shared, "r4", "Observation?code=8867-4&patient=Patient/r4", header=["X-Token: secret"]
        )
    )
    shared.put(reading("r41", "r4"), reading("r42", "p2"), reading("r43", "r4"))
    wait_until(lambda: shared.is_told("Subscription/r4", 2))
    got = shared.journal("/r4")
    assert [(each["method"], each["path"]) for each in got] == [
        ("PUT", "/r4/Observation/or41"),
        ("PUT", "/r4/Observation/or43"),
    ]
    assert got[0]["body"].encode() == shared.read("Observation/or41").body
    assert got[0]["headers"]["x-token"] == "secret"
    assert got[0]["headers"]["content-type"] == "application/fhir+json; charset=utf-8"


def test_r4_without_a_payload_is_a_post_with_nothing_in_it(shared):
    shared.activate(plain(shared, "bare", "Observation?patient=bare", payload=""))
    shared.put(reading("bare", "bare"))
    wait_until(lambda: shared.is_told("Subscription/bare", 1))
    (got,) = shared.journal("/bare")
    assert (got["method"], got["path"], got["body"]) == ("POST", "/bare", "")


def test_a_payload_may_be_xml(shared):
    criteria = "Observation?patient=xml"
    shared.activate(plain(shared, "xml", criteria, payload="application/fhir+xml"))
    shared.put(reading("xml", "xml"))
    wait_until(lambda: shared.is_told("Subscription/xml", 1))
    (got,) = shared.journal("/xml")
    assert got["headers"]["content-type"] == "application/fhir+xml; charset=utf-8"
    assert '<id value="oxml"/>' in got["body"]


def test_a_handshake_comes_before_the_first_event_and_nothing_in_between_is_missed(scene):
    scene.start_receiver()
    scene.behave("/a", delay=0.5)
    scene.put(reading(1))
    scene.start_worker()
    scene.put(by_topic(scene, "a", "reading-accepted", content="full-resource"))
    scene.put(reading(2), reading(3, system="urn:other"))
    assert scene.status("a") == "requested"
    wait_until(lambda: scene.is_told("Subscription/a", 1))
    first, second = map(told, scene.journal("/a"))
    assert (first["type"], first["status"]) == ("handshake", "requested")
    assert "events" not in first
    assert (second["type"], second["status"]) == ("event-notification", "active")
    assert second["topic"] == TOPICS + "reading-accepted"
    (event,) = second["events"]
    assert event["event-number"] == "1"
    assert event["focus"] == {"reference": f"{BASE}/Observation/o2"}
    (entry,) = second["entries"]
    assert entry["fullUrl"] == f"{BASE}/Observation/o2"
    assert entry["resource"]["id"] == "o2"


def test_an_endpoint_that_refuses_the_handshake_is_in_error_until_asked_again(scene):
    scene.start_receiver()
    scene.behave("/a", status=500)
    scene.start_worker()
    subscription = by_topic(scene, "a", "reading-accepted")
    scene.put(subscription)
    wait_until(lambda: scene.status("a") == "error")
    error = scene.read("Subscription/a").resource()["error"]
    assert error == "the handshake failed: the receiver answered 500"
    scene.put(reading(1))
    scene.behave("/a", status=200)
    scene.activate(subscription)
    scene.put(reading(2))
    wait_until(lambda: scene.is_told("Subscription/a", 1))
    assert list(numbers(scene.journal("/a")).values()) == [f"{BASE}/Observation/o2"]


def test_filters_choose_and_max_count_bounds_a_notification(scene):
    scene.start_receiver()
    subscription = by_topic(
        scene,
        "a",
        "reading-accepted",
        filters=["Observation?patient=Patient/p1"],
        extensions=[("max-count", {"valuePositiveInt": 3})],
    )
    scene.put(subscription)
    scene.put(*(reading(n, patient=f"p{n % 2}") for n in range(20)))
    scene.start_worker()
    wait_until(lambda: scene.is_told("Subscription/a", 10))
    batches = [told(each)["events"] for each in scene.journal("/a")[1:]]
    assert max(map(len, batches)) == 3
    assert sorted(numbers(scene.journal("/a"))) == list(range(1, 11))
    assert set(numbers(scene.journal("/a")).values()) == {
        f"{BASE}/Observation/o{n}" for n in range(1, 20, 2)
    }


def test_a_chain_is_followed_to_what_the_resource_refers_to(shared):
    patient = {"resourceType": "Patient", "gender": "female"}
    shared.put({**patient, "id": "c1"}, {**patient, "id": "c2", "gender": "male"})
    shared.activate(plain(shared, "chain", "Observation?patient.gender=female"))
    shared.put(reading("c1", "c1"), reading("c2", "c2"), reading("c3", "nobody"))
    shared.put(reading("c4", "c1"))
    wait_until(lambda: shared.is_told("Subscription/chain", 2))


def test_a_deletion_is_an_event_of_a_topic_that_has_it(shared):
    shared.activate(
        by_topic(
            shared,
            "plans",
            "care-plan-changed",
            content="full-resource",
            filters=["CarePlan?patient=Patient/p1"],
        )
    )
    plan = {"resourceType": "CarePlan", "id": "c1", "status": "active", "intent": "plan"}
    shared.put({**plan, "subject": {"reference": "Patient/p1"}})
    shared.put({**plan, "id": "c2", "subject": {"reference": "Patient/p2"}})
    shared.delete(ResourceKey("CarePlan", "c1"))
    shared.delete(ResourceKey("CarePlan", "c2"))
    wait_until(lambda: shared.is_told("Subscription/plans", 2))
    last = told(shared.journal("/plans")[-1])
    assert last["entries"][-1]["request"] == {"method": "DELETE", "url": "CarePlan/c1"}
    assert "resource" not in last["entries"][-1]


def test_an_end_switches_off_and_a_deleted_subscription_is_told_nothing(shared):
    criteria = "Observation?patient=end"
    ending = plain(shared, "end", criteria)
    ending["end"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    shared.activate(ending, plain(shared, "deleted", criteria))
    shared.put(reading("e1", "end"))
    for name in ("end", "deleted"):
        wait_until(lambda n=name: shared.is_told(f"Subscription/{n}", 1))
    shared.delete(ResourceKey("Subscription", "deleted"))
    wait_until(lambda: shared.status("end") == "off")
    shared.put(reading("e2", "end"))
    shared.activate(plain(shared, "after", criteria))
    shared.put(reading("e3", "end"))
    wait_until(lambda: shared.is_told("Subscription/after", 1))
    assert len(shared.journal("/end")) == len(shared.journal("/deleted")) == 1


def test_heartbeats_come_while_nothing_happens(shared):
    shared.activate(
        by_topic(
            shared,
            "beating",
            "reading-accepted",
            filters=["Observation?patient=beating"],
            extensions=[("heartbeat-period", {"valueUnsignedInt": 5})],
        )
    )
    wait_until(lambda: len(shared.journal("/beating")) >= 2, 20)
    beat = told(shared.journal("/beating")[1])
    assert (beat["type"], beat["events-since-subscription-start"]) == ("heartbeat", "0")


def test_dead_slow_and_failing_endpoints_delay_nobody_else(scene):
    """Five receivers of which one is well: it is told at once, and in the end so are all."""
    scene.start_receiver()
    readings = 40
    dead = plain(scene, "dead", "Observation?")
    dead["channel"]["endpoint"] = f"http://127.0.0.1:{free_port()}/dead"
    names = ("fine", "slow", "failing", "cutting")
    scene.start_worker()
    scene.activate(*(by_topic(scene, name, "reading-accepted") for name in names), dead)
    scene.behave("/slow", delay=1.0)
    scene.behave("/failing", status=500)
    scene.behave("/cutting", cut=5)
    began = time.time()
    for number in range(readings):
        scene.put(reading(number))
        time.sleep(0.02)
    wait_until(lambda: scene.is_told("Subscription/fine", readings))
    stored = {
        each.key: each.queued_at.timestamp()
        for each in scene.outbox.list("Subscription/fine", (), 1_000, 0)
    }
    delays = []
    for request in scene.journal("/fine")[1:]:
        for event in told(request)["events"]:
            key = ResourceKey("Observation", event["focus"]["reference"].rpartition("/")[2])
            delays.append(request["at"] - stored[key])
    assert sorted(delays)[int(len(delays) * 0.95)] < 2.0
    wait_until(lambda: scene.status("failing") == "error" and scene.status("dead") == "error")
    assert time.time() - began < 60
    scene.behave("/failing", status=200)
    for name in ("slow", "failing", "cutting"):
        wait_until(lambda n=name: scene.is_told(f"Subscription/{n}", readings))
        assert sorted(numbers(scene.journal(f"/{name}"))) == list(range(1, readings + 1))
    wait_until(lambda: scene.status("failing") == "active")
    assert "error" not in scene.read("Subscription/failing").resource()
    # What nobody will ever take does not wait for ever.
    scene.put({**dead, "status": "off"})
    wait_until(lambda: scene.states("Subscription/dead") == ["rejected"] * readings)


def test_killed_workers_lose_nothing_and_keep_the_order_of_each_resource(scene):
    """Each version once by idempotency key or again under its own number, never out of order."""
    scene.start_receiver()
    chance = random.Random(11)
    workers = [scene.start_worker(), scene.start_worker()]
    scene.activate(by_topic(scene, "a", "reading-accepted", content="full-resource"))
    scene.behave("/a", delay=0.02, cut=3)
    for round_ in range(3):
        scene.put(*(reading(n, value=100 + round_) for n in range(30)))
        time.sleep(chance.uniform(0.1, 0.4))
        victim = workers.pop(0)
        victim.kill()
        victim.wait()
        workers.append(scene.start_worker())
    wait_until(lambda: scene.is_told("Subscription/a", 90))
    versions = defaultdict(list)
    seen = set()
    for request in scene.journal("/a"):
        found = told(request)
        for event, entry in zip(found.get("events", ()), found["entries"], strict=True):
            seen.add(int(event["event-number"]))
            version_id = int(entry["resource"]["meta"]["versionId"])
            versions[entry["resource"]["id"]].append(version_id)
    assert seen == set(range(1, 91))
    for told_versions in versions.values():
        first_time = list(dict.fromkeys(told_versions))
        assert first_time == [1, 2, 3]
        # What is told again is the one told last, not an older one.
        assert told_versions == sorted(told_versions)
