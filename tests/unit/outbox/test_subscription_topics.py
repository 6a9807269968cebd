"""A topic that changes makes who listens another from its own place in the commit order on."""

import asyncio
from datetime import timedelta

import pytest

from fhir_server.app import now, open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.subscription import Status
from fhir_server.core.version import deletion, next_version
from fhir_server.outbox import subscription_status
from fhir_server.outbox.subscription_book import SubscriptionBook
from fhir_server.outbox.subscription_route import SubscriptionRoute
from fhir_server.settings import Settings

URL = "https://a.example/topic"
CROSS = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"


class Scene:
    def __init__(self, folder):
        self.components = open_components(Settings(store=f"sqlite:///{folder}/fhir.db"))
        self.outbox = self.components.store.outbox

    def book(self):
        return SubscriptionBook(self.outbox, self.components.subscription_reader)

    def routed(self, book, route=None):
        """Who is told, in commit order: the ids of the Patients."""
        route = route or SubscriptionRoute(book, self.outbox, self.components.context.index)
        feed = asyncio.run(self.components.store.changes(0, 1_000))
        return [
            version.key.resource_id
            for version in feed
            for wanted in route(version)
            if wanted.group == "events"
        ]

    def put(self, *resources):
        def decide(tx):
            for each in resources:
                key = ResourceKey(each["resourceType"], each["id"])
                tx.put(*next_version(tx.read(key), key, each, tx.now))

        self.outbox.commit(decide)

    def delete(self, name):
        key = ResourceKey(*name.split("/"))
        self.outbox.commit(lambda tx: tx.put(deletion(tx.read(key), tx.now), None))


@pytest.fixture
def scene(tmp_path):
    opened = Scene(tmp_path)
    yield opened
    asyncio.run(opened.components.store.close())


def topic(criteria, name="t", url=URL):
    query = [{"url": "current", "valueString": criteria}]
    trigger = [
        {"url": "resource", "valueUri": "Patient"},
        {"url": "queryCriteria", "extension": query},
    ]
    return {
        "resourceType": "Basic",
        "id": name,
        "code": {
            "coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]
        },
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/artifact-url", "valueUri": url},
            {"url": CROSS + "resourceTrigger", "extension": trigger},
        ],
    }


def subscription(status="active", name="s", **more):
    content = [{"url": f"{BACKPORT}payload-content", "valueCode": "empty"}]
    return {
        "resourceType": "Subscription",
        "id": name,
        "status": status,
        "reason": "test",
        "criteria": URL,
        "channel": {"type": "websocket", "_payload": {"extension": content}},
        **more,
    }


def patient(name, gender):
    return {"resourceType": "Patient", "id": name, "gender": gender}


def test_every_process_matches_by_the_topic_of_that_place(scene):
    early = scene.book()
    scene.put(topic("gender=female"))
    scene.put(subscription())
    scene.put(patient("a", "female"), patient("b", "male"))
    assert scene.routed(early) == ["a"]
    scene.put(topic("gender=male"))
    scene.put(patient("c", "female"), patient("d", "male"))
    scene.delete("Basic/t")
    scene.put(patient("e", "male"))
    scene.put(topic("gender=male"))
    scene.put(subscription())
    scene.put(patient("f", "male"))
    expected = ["a", "d", "f"]
    late = scene.book()
    late.catch_up()
    assert scene.routed(early) == scene.routed(late) == scene.routed(scene.book()) == expected


def test_of_two_topics_with_one_url_the_first_counts(scene):
    scene.put(topic("gender=female", "first"))
    scene.put(topic("gender=male", "second"))
    scene.put(subscription())
    scene.put(patient("a", "female"), patient("b", "male"))
    scene.delete("Basic/first")
    scene.put(patient("c", "female"), patient("d", "male"))
    assert scene.routed(scene.book()) == ["a", "d"]


def test_a_shipped_topic_cannot_be_written_over(scene):
    url = "https://pmp.example/fhir/SubscriptionTopic/reading-accepted"
    scene.put(topic("gender=female", url=url))
    scene.put({**subscription(), "criteria": url})
    scene.put(patient("a", "female"))
    assert scene.routed(scene.book()) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"extension": "x"},
        {"extension": [{}]},
        {"extension": [{"url": CROSS + "resourceTrigger", "valueString": "x"}]},
    ],
)
def test_what_was_stored_without_validation_stops_nobody(scene, broken):
    scene.put({**topic("gender=female", "broken"), **broken})
    scene.put(topic("gender=female"))
    scene.put(subscription())
    scene.put(patient("a", "female"))
    assert scene.routed(scene.book()) == ["a"]


def test_one_whose_topic_is_gone_is_named_as_broken(scene):
    book = scene.book()
    scene.put(topic("gender=female"))
    scene.put(subscription())
    book.catch_up()
    assert book.broken() == ()
    scene.delete("Basic/t")
    book.catch_up()
    (key,) = book.broken()
    subscription_status.report_trouble(scene.outbox, key, "gone")
    book.catch_up()
    assert book.broken() == ()
    assert scene.outbox.read(key).resource()["status"] == "error"


def test_what_is_in_error_for_too_long_is_switched_off(scene):
    book = scene.book()
    key = ResourceKey("Subscription", "s")
    plain = {"criteria": "Patient?", "channel": {"type": "websocket"}}
    scene.put(subscription(**plain))
    scene.put(subscription("error", **plain))
    book.catch_up()
    long_ago, soon = now() - timedelta(days=7), now() + timedelta(seconds=1)
    assert book.in_trouble(long_ago) == ()
    assert book.in_trouble(soon) == (key,)
    subscription_status.give_up(scene.outbox, key, long_ago)
    assert scene.outbox.read(key).resource()["status"] == "error"
    subscription_status.give_up(scene.outbox, key, soon)
    assert scene.outbox.read(key).resource()["status"] == "off"
    assert "too long" in scene.outbox.read(key).resource()["error"]
    book.catch_up()
    assert book.now(key).status is Status.OFF
    assert book.in_trouble(soon) == ()
