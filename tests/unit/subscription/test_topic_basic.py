"""A topic that a client writes as a Basic, and what it allows filters to do."""

from datetime import UTC, datetime

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.match import Indexed
from fhir_server.core.subscription_condition import compile_condition
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.core.subscription_topic import Change
from fhir_server.core.subscription_topic_basic import is_topic, to_topic
from fhir_server.core.version import Version, next_version
from fhir_server.definitions import load, read_topics
from fhir_server.errors import InvalidResource, InvalidSearch

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
URL = "https://a.example/topic"
CROSS = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"


def part(url, **more):
    return {"url": url, **more}


def basic(*extensions, url=URL):
    return {
        "resourceType": "Basic",
        "code": {
            "coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]
        },
        "extension": [
            part("http://hl7.org/fhir/StructureDefinition/artifact-url", valueUri=url),
            part(
                CROSS + "resourceTrigger",
                extension=[
                    part(
                        "resource", valueUri="http://hl7.org/fhir/StructureDefinition/Observation"
                    ),
                    part("supportedInteraction", valueCode="create"),
                    part("supportedInteraction", valueCode="update"),
                    part(
                        "queryCriteria",
                        extension=[
                            part("previous", valueString="status=preliminary"),
                            part("resultForCreate", valueCode="test-passes"),
                            part("current", valueString="status=final"),
                            part("requireBoth", valueBoolean=True),
                        ],
                    ),
                ],
            ),
            part(
                CROSS + "canFilterBy",
                extension=[
                    part("resource", valueUri="Observation"),
                    part("filterParameter", valueString="value-quantity"),
                    part("comparator", valueCode="gt"),
                    part("comparator", valueCode="eq"),
                ],
            ),
            part(
                CROSS + "canFilterBy",
                extension=[
                    part("filterParameter", valueString="code"),
                    part("modifier", valueCode="not"),
                ],
            ),
            *extensions,
        ],
    }


@pytest.fixture(scope="module")
def definitions():
    return load()


@pytest.fixture(scope="module")
def reader(definitions):
    found = SubscriptionReader(definitions.parameters, base_url="", time_zone="Europe/Moscow")
    return found.knowing([found.parse_topic(to_topic(basic()), NOW)])


def filtered(reader, text):
    channel = {
        "type": "websocket",
        "_payload": {"extension": [part(f"{BACKPORT}payload-content", valueCode="empty")]},
    }
    subscription = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": URL,
        "_criteria": {"extension": [part(f"{BACKPORT}filter-criteria", valueString=text)]},
        "channel": channel,
    }
    return reader.parse(ResourceKey("Subscription", "s"), 1, subscription, NOW)


def test_a_basic_says_what_the_topic_of_r5_would(reader):
    (trigger,) = reader.topics[URL].triggers
    assert (trigger.resource_type, trigger.is_both) == ("Observation", True)
    assert trigger.interactions == {"create", "update"}
    assert trigger.previous is not None
    assert trigger.current is not None
    assert set(reader.topics[URL].filters["Observation"]) == {"value-quantity", "code"}


def test_only_what_says_so_is_a_topic():
    assert is_topic(basic())
    assert not is_topic({**basic(), "code": {"text": "SubscriptionTopic"}})
    assert not is_topic({**basic(), "code": None})
    assert not is_topic({**basic(), "resourceType": "Patient"})
    # Where others have a code of another shape.
    assert not is_topic({"resourceType": "SearchParameter", "code": "SubscriptionTopic"})


@pytest.mark.parametrize(
    "text",
    [
        "Observation?value-quantity=gt5",
        "Observation?value-quantity=5",
        "Observation?value-quantity=gt5,eq7",
        "Observation?code:not=x",
        "Observation?code=eq-is-no-comparator-here",
    ],
)
def test_what_the_topic_allows_filters(reader, text):
    assert filtered(reader, text).filters["Observation"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Observation?value-quantity=lt5", "comparators eq, gt"),
        ("Observation?value-quantity=gt5,le7", "comparators eq, gt"),
        ("Observation?code:in=x", "does not allow this modifier"),
        ("Observation?status=final", "cannot be filtered by this"),
        ("Patient?code=x", "cannot be filtered by this"),
    ],
)
def test_what_the_topic_does_not_allow_is_refused(reader, text, reason):
    with pytest.raises(InvalidResource) as refused:
        filtered(reader, text)
    assert any(reason in issue.diagnostics for issue in refused.value.issues)


def test_clients_write_no_fhirpath(reader):
    topic = to_topic(basic())
    topic["resourceTrigger"][0]["fhirPathCriteria"] = "true"
    with pytest.raises(ValueError, match="fhirPathCriteria"):
        reader.parse_topic(topic, NOW)


def test_what_is_no_fhirpath_is_told():
    with pytest.raises(InvalidSearch):
        compile_condition("%current.nothing(")


@pytest.fixture(scope="module")
def topics(definitions):
    reader = SubscriptionReader(definitions.parameters, base_url="", time_zone="UTC")
    found = [
        reader.parse_topic(topic, NOW, compile_condition)
        for topic in read_topics(definitions.profile_folders)
    ]
    return {topic.url.rpartition("/")[2]: topic for topic in found}


@pytest.fixture(scope="module")
def is_event(topics, definitions):
    index = Indexer(definitions.parameters, definitions.element_types, "UTC")

    def ask(name, *states):
        indexed = []
        version: Version | None = None
        for state in states:
            key = ResourceKey(state["resourceType"], "x")
            version, stored = next_version(version, key, state, NOW)
            indexed.append(Indexed(index(stored), version))
        before = indexed[-2] if len(indexed) > 1 else None
        change = Change(version, indexed[-1], before)
        return any(t.is_pulled(change, lambda _: ()) for t in topics[name].triggers)

    return ask


def alert(system="https://pmp.example/fhir/CodeSystem/alert", **more):
    return {
        "resourceType": "DetectedIssue",
        "status": "preliminary",
        "code": {"coding": [{"system": system, "code": "above-limit"}]},
        **more,
    }


def test_those_promised_are_there(topics):
    assert topics.keys() >= {
        "reading-accepted",
        "alert-raised",
        "alert-acknowledged",
        "care-plan-changed",
        "adherence-missed",
    }


def test_an_alert_is_raised_when_it_is_made(is_event):
    assert is_event("alert-raised", alert())
    assert not is_event("alert-raised", alert("urn:other"))
    assert not is_event("alert-raised", alert(), alert(status="final"))


def test_an_alert_is_acknowledged_once(is_event):
    seen = alert(mitigation=[{"action": {"text": "called"}}])
    assert is_event("alert-acknowledged", alert(), seen)
    assert not is_event("alert-acknowledged", alert(), alert(status="final"))
    assert not is_event("alert-acknowledged", seen, {**seen, "status": "final"})
    assert not is_event("alert-acknowledged", {**seen, "code": {"text": "x"}})


def test_a_missed_measurement_is_a_task(is_event):
    system = "https://pmp.example/fhir/CodeSystem/task"
    code = {"coding": [{"system": system, "code": "missed-measurement"}]}
    task = {"resourceType": "Task", "status": "requested", "intent": "order", "code": code}
    assert is_event("adherence-missed", task)
    assert not is_event("adherence-missed", {**task, "code": {"text": "missed-measurement"}})
    assert not is_event("adherence-missed", task, {**task, "status": "completed"})
