"""Who listens to a version is decided by where it stands in the commit order."""

import asyncio
from datetime import UTC, datetime

import pytest

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import deletion, next_version
from fhir_server.outbox import subscription_status
from fhir_server.outbox.subscription_book import SubscriptionBook
from fhir_server.outbox.subscription_route import SubscriptionRoute
from fhir_server.settings import Settings


class Scene:
    def __init__(self, folder):
        settings = Settings(store=f"sqlite:///{folder}/fhir.db", allow_private_endpoints=True)
        self.components = open_components(settings)
        self.outbox = self.components.store.outbox

    def process(self):
        """A book and its route, as every process has its own."""
        book = SubscriptionBook(self.outbox, self.components.subscription_reader)
        return book, SubscriptionRoute(book, self.outbox, self.components.context.index)

    def put(self, *resources):
        def decide(tx):
            made = []
            for resource in resources:
                key = ResourceKey(resource["resourceType"], resource["id"])
                version, stored = next_version(tx.read(key), key, resource, tx.now)
                tx.put(version, stored)
                made.append(version)
            return made

        return self.outbox.commit(decide)

    def delete(self, name):
        key = ResourceKey(*name.split("/"))
        self.outbox.commit(lambda tx: tx.put(deletion(tx.read(key), tx.now), None))

    def feed(self):
        return asyncio.run(self.components.store.changes(0, 1_000))


@pytest.fixture
def scene(tmp_path):
    opened = Scene(tmp_path)
    yield opened
    asyncio.run(opened.components.store.close())


def subscription(name="s1", criteria="Observation?", status="requested", **more):
    return {
        "resourceType": "Subscription",
        "id": name,
        "status": status,
        "reason": "test",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/"},
        **more,
    }


def observation(name, patient="p1"):
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient}"},
    }


def routed(route, feed):
    """The ids of what is told, by sink."""
    found = {}
    for version in feed:
        for wanted in route(version):
            found.setdefault(wanted.sink, []).append(version.key.resource_id)
    return found


def test_every_process_finds_the_same_whenever_it_looks(scene):
    early_book, early = scene.process()
    scene.put(observation("before"))
    scene.put(subscription())
    scene.put(observation("asked"))
    scene.put(subscription(status="active"))
    scene.put(observation("active"))
    scene.put(subscription(status="off"))
    scene.put(observation("off"))
    scene.put(subscription(status="active", criteria="Observation?patient=p2"))
    scene.put(observation("other"), observation("narrowed", "p2"))
    scene.delete("Subscription/s1")
    scene.put(observation("deleted", "p2"))
    expected = {
        "Subscription/s1": ["asked", "active", "narrowed"],
        "Subscription/s1/handshake": ["s1"],
    }
    assert routed(early, scene.feed()) == expected
    # Another that knew nothing, and one that knows how it ended already.
    _, late = scene.process()
    assert routed(late, scene.feed()) == expected
    assert early_book.catch_up()
    assert routed(early, scene.feed()) == expected


def test_what_is_forgotten_changes_nothing_for_what_comes_behind(scene):
    book, route = scene.process()
    scene.put(subscription(status="active"))
    scene.put(subscription(status="active", criteria="Observation?patient=p2"))
    scene.put(observation("a"), observation("b", "p2"))
    scene.put(subscription(status="off"))
    scene.put(observation("c", "p2"))
    book.catch_up()
    book.forget(4)
    assert routed(route, scene.feed()[2:]) == {"Subscription/s1": ["b"]}
    book.forget(6)
    assert routed(route, scene.feed()[5:]) == {}
    assert not book.may_want("Observation", 6)


def test_an_error_is_listened_through_only_once_the_endpoint_had_agreed(scene):
    _, route = scene.process()
    scene.put(subscription(status="active"), subscription("s2"))
    scene.put(subscription(status="error"), subscription("s2", status="error"))
    scene.put(observation("a"))
    assert routed(route, scene.feed()[2:]) == {"Subscription/s1": ["a"]}


def test_an_end_counts_by_the_time_of_the_commit(scene):
    _, route = scene.process()
    (version,) = scene.put(observation("first"))
    ended = {"end": version.last_updated.isoformat()}
    scene.put(subscription(status="active", **ended), subscription("s2", status="active"))
    scene.put(observation("a"))
    assert routed(route, scene.feed()[2:]) == {"Subscription/s2": ["a"]}


def test_what_cannot_be_evaluated_is_told_nothing_and_stops_nobody(scene):
    _, route = scene.process()
    scene.put(subscription(criteria="Observation?colour=red", status="active"))
    scene.put(subscription("s2", status="active"))
    scene.put(observation("a"))
    assert routed(route, scene.feed()) == {"Subscription/s2": ["a"]}


class TestStatus:
    def status(self, scene):
        version = scene.outbox.read(ResourceKey("Subscription", "s1"))
        return None if version.is_deletion else version.resource()["status"]

    def test_an_answer_is_for_the_request_it_was_asked_by(self, scene):
        (old,) = scene.put(subscription())
        (new,) = scene.put(subscription(criteria="Patient?"))
        subscription_status.answer_request(scene.outbox, old, "active")
        assert self.status(scene) == "requested"
        subscription_status.answer_request(
            scene.outbox, new, subscription_status.Status.ERROR, "no"
        )
        assert self.status(scene) == "error"

    def test_trouble_and_recovery_do_not_undo_what_a_client_wrote(self, scene):
        key = ResourceKey("Subscription", "s1")
        scene.put(subscription(status="off"))
        subscription_status.report_trouble(scene.outbox, key, "no answer")
        subscription_status.report_recovery(scene.outbox, key)
        assert self.status(scene) == "off"
        scene.put(subscription(status="active"))
        for _ in range(3):
            subscription_status.report_trouble(scene.outbox, key, "no answer")
        version = scene.outbox.read(key)
        assert (version.version_id, version.resource()["error"]) == (3, "no answer")
        scene.delete("Subscription/s1")
        subscription_status.report_recovery(scene.outbox, key)
        assert self.status(scene) is None

    def test_an_end_that_was_put_off_meanwhile_is_not_come(self, scene):
        key, now = ResourceKey("Subscription", "s1"), datetime.now(UTC)  # noqa: TID251
        scene.put(subscription(status="active", end="2999-01-01T00:00:00Z"))
        subscription_status.switch_off(scene.outbox, key, now)
        assert self.status(scene) == "active"
        scene.put(subscription(status="active", end="2001-01-01T00:00:00Z"))
        subscription_status.switch_off(scene.outbox, key, now)
        assert self.status(scene) == "off"
