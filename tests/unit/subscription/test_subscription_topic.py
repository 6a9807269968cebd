"""Which changes pull a topic's trigger: the two states, and what stands for a missing one."""

from datetime import UTC, datetime

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.match import Indexed
from fhir_server.core.subscription_condition import compile_condition
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.core.subscription_topic import Change
from fhir_server.core.version import deletion, next_version
from fhir_server.definitions import load, read_topics

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
KEY = ResourceKey("Observation", "o1")


@pytest.fixture(scope="module")
def definitions():
    return load()


@pytest.fixture(scope="module")
def reader(definitions):
    return SubscriptionReader(definitions.parameters, base_url="", time_zone="Europe/Moscow")


@pytest.fixture(scope="module")
def change(definitions):
    """The change between two statuses; None is a resource that is not there."""
    index = Indexer(definitions.parameters, definitions.element_types, "Europe/Moscow")

    def make(before, after):
        previous = None
        if before is not None:
            version, resource = next_version(None, KEY, observation(before), NOW)
            previous = Indexed(index(resource), version)
        if after is None:
            return Change(deletion(previous.version, NOW), None, previous)
        version, resource = next_version(
            previous and previous.version, KEY, observation(after), NOW
        )
        return Change(version, Indexed(index(resource), version), previous)

    return make


def observation(status):
    return {"resourceType": "Observation", "status": status, "code": {"text": "x"}}


def topic(reader, interactions=("create", "update", "delete"), **query):
    trigger = {"resource": "Observation", "supportedInteraction": list(interactions)}
    if query:
        trigger["queryCriteria"] = query
    resource = {"resourceType": "SubscriptionTopic", "url": "urn:t", "resourceTrigger": [trigger]}
    return reader.parse_topic(resource, NOW).triggers[0]


def nothing(_resource_type):
    return ()


FINAL, PRELIMINARY = "status=final", "status=preliminary"


@pytest.mark.parametrize(
    ("query", "before", "after", "is_pulled"),
    [
        ({}, None, "final", True),
        ({}, "final", None, True),
        ({"current": FINAL}, None, "final", True),
        ({"current": FINAL}, None, "amended", False),
        ({"current": FINAL}, "amended", "final", True),
        ({"previous": PRELIMINARY, "current": FINAL, "requireBoth": True},
         "preliminary", "final", True),
        ({"previous": PRELIMINARY, "current": FINAL, "requireBoth": True},
         "amended", "final", False),
        ({"previous": PRELIMINARY, "current": FINAL, "requireBoth": True},
         "preliminary", "amended", False),
        ({"previous": PRELIMINARY, "current": FINAL}, "amended", "final", True),
        ({"previous": PRELIMINARY, "current": FINAL}, "preliminary", "amended", True),
        ({"previous": PRELIMINARY, "current": FINAL}, "amended", "amended", False),
        ({"previous": PRELIMINARY, "current": FINAL, "requireBoth": True,
          "resultForCreate": "test-passes"}, None, "final", True),
        ({"previous": PRELIMINARY, "current": FINAL, "requireBoth": True,
          "resultForCreate": "test-fails"}, None, "final", False),
        ({"current": FINAL, "resultForDelete": "test-fails"}, "final", None, False),
        ({"current": FINAL, "resultForDelete": "test-passes"}, "final", None, True),
    ],
)  # fmt: skip
def test_a_trigger_looks_at_both_states(reader, change, query, before, after, is_pulled):
    assert topic(reader, **query).is_pulled(change(before, after), nothing) is is_pulled


def test_a_trigger_is_of_its_interactions(reader, change):
    trigger = topic(reader, interactions=["update"])
    assert not trigger.is_pulled(change(None, "final"), nothing)
    assert trigger.is_pulled(change("final", "final"), nothing)
    assert not trigger.is_pulled(change("final", None), nothing)


def test_what_an_update_creates_is_a_creation(reader, change):
    made = change(None, "final")
    version = made.version._replace(interaction="update-create")
    made = Change(version, made.current._replace(version=version), None)
    assert topic(reader, interactions=["create"]).is_pulled(made, nothing)
    assert not topic(reader, interactions=["update"]).is_pulled(made, nothing)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"resourceTrigger": [{"resource": "Patient", "fhirPathCriteria": "true"}]}, "fhirPath"),
        ({"resourceTrigger": [{"resource": "Patient", "queryCriteria": {"current": "x=y"}}]}, "x"),
        (
            {"resourceTrigger": [{"resource": "Patient", "supportedInteraction": ["read"]}]},
            "delete",
        ),
        ({"resourceTrigger": [{}]}, "resource"),
        ({"resourceTrigger": []}, "trigger"),
        ({}, "resourceTrigger"),
        ({"resourceTrigger": [{"resource": "Patient"}], "eventTrigger": [{}]}, "eventTrigger"),
    ],
)
def test_a_topic_that_cannot_be_evaluated_says_why(reader, broken, named):
    with pytest.raises(ValueError, match=named):
        reader.parse_topic({"resourceType": "SubscriptionTopic", "url": "urn:t", **broken}, NOW)


def test_every_shipped_topic_can_be_evaluated(reader, definitions):
    topics = [
        reader.parse_topic(t, NOW, compile_condition)
        for t in read_topics(definitions.profile_folders)
    ]
    assert {topic.url.rpartition("/")[2] for topic in topics} >= {
        "reading-accepted",
        "care-plan-changed",
    }
    for each in topics:
        for resource_type, names in each.filters.items():
            for name in names:
                assert definitions.parameters.get(resource_type, name) is not None, name
