"""What a Subscription may ask for, and what is refused with its path."""

from datetime import UTC, datetime

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.subscription import Content, Status
from fhir_server.core.subscription_condition import compile_condition
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.definitions import load, read_topics
from fhir_server.errors import InvalidResource
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.subscription_checks import SubscriptionChecks

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
KEY = ResourceKey("Subscription", "s1")
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
READINGS = "https://pmp.example/fhir/SubscriptionTopic/reading-accepted"


@pytest.fixture(scope="module")
def definitions():
    return load()


@pytest.fixture(scope="module")
def reader(definitions):
    reader = SubscriptionReader(
        definitions.parameters, base_url="https://pmp.example/fhir/r4", time_zone="Europe/Moscow"
    )
    topics = read_topics(definitions.profile_folders)
    return reader.knowing(reader.parse_topic(topic, NOW, compile_condition) for topic in topics)


def subscription(criteria="Observation?code=8867-4", **channel):
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": "https://a.example/hook", **channel},
    }


def of_topic(*filters, content="id-only", extensions=()):
    found = subscription(READINGS, payload="application/fhir+json")
    found["channel"]["_payload"] = {
        "extension": [{"url": f"{BACKPORT}payload-content", "valueCode": content}]
    }
    found["channel"]["extension"] = [
        {"url": BACKPORT + name, "valuePositiveInt": value} for name, value in extensions
    ]
    found["_criteria"] = {
        "extension": [{"url": f"{BACKPORT}filter-criteria", "valueString": f} for f in filters]
    }
    return found


def faults(reader, resource):
    with pytest.raises(InvalidResource) as refused:
        reader.parse(KEY, 1, resource, NOW)
    return [(issue.expression, issue.diagnostics) for issue in refused.value.issues]


def test_criteria_are_a_search_of_one_type(reader):
    found = reader.parse(KEY, 1, subscription(), NOW)
    assert found.resource_types == {"Observation"}
    assert (found.topic, found.status, found.sink) == ("", Status.REQUESTED, "Subscription/s1")
    assert found.channel.content is None


@pytest.mark.parametrize("criteria", ["Observation", "Observation?", "/Observation?code=x"])
def test_a_type_alone_is_all_of_it(reader, criteria):
    assert reader.parse(KEY, 1, subscription(criteria), NOW).resource_types == {"Observation"}


@pytest.mark.parametrize(
    ("criteria", "named"),
    [
        ("Observation?colour=red", "colour"),
        ("Observation?code:below=x", "below"),
        ("Observation?date=yesterday", "date"),
        ("Observation?_count=5", "_count"),
        ("Observation?_filter=x", "_filter"),
        ("Patient?_has:Observation:patient:code=x", "_has"),
        ("Patient?_has:Observation:patient:encounter.status=x", "_has"),
        ("Nothing?code=x", "resource type"),
        ("code=x", "resource type"),
        ("Subscription?status=active", "Subscription"),
        ("https://other.example/Topic", "topic"),
    ],
)
def test_criteria_that_cannot_be_evaluated_are_refused_and_named(reader, criteria, named):
    ((path, diagnostics),) = faults(reader, subscription(criteria))
    assert path == "Subscription.criteria"
    assert named in diagnostics


@pytest.mark.parametrize("kind", ["email", "sms", "fax"])
def test_a_channel_that_is_not_there_is_refused(reader, kind):
    ((path, diagnostics),) = faults(reader, subscription(type=kind))
    assert path == "Subscription.channel.type"
    assert kind in diagnostics


def test_all_that_is_wrong_is_told_at_once(reader):
    wrong = subscription("Observation?colour=red", payload="text/plain", header=["no colon"])
    assert [path for path, _ in faults(reader, wrong)] == [
        "Subscription.criteria",
        "Subscription.channel.payload",
        "Subscription.channel.header[0]",
    ]


@pytest.mark.parametrize(
    "header",
    ["X: s\r\nY: b", "X: s\nY", " X: s3", "X : s3", ":s3", "X: ä", "Host: s3", "te: 9"],
)
def test_a_header_that_would_frame_another_request_is_refused(reader, header):
    ((path, diagnostics),) = faults(reader, subscription(header=[header]))
    assert path == "Subscription.channel.header[0]"
    assert header.partition(":")[2] not in diagnostics


def test_headers_are_kept_and_never_shown(reader):
    found = reader.parse(KEY, 1, subscription(header=["Authorization: Bearer s3cret"]), NOW)
    assert found.channel.headers == (("Authorization", "Bearer s3cret"),)
    assert "s3cret" not in repr(found)


def test_a_topic_is_filtered_by_what_it_allows(reader):
    found = reader.parse(KEY, 1, of_topic("Observation?patient=Patient/p1&code=x"), NOW)
    assert found.topic == READINGS
    assert found.channel.content is Content.ID_ONLY
    assert len(found.filters["Observation"]) == 2


@pytest.mark.parametrize("text", ["Observation?performer=Patient/p1", "Patient?gender=male"])
def test_a_filter_that_the_topic_does_not_allow_is_refused(reader, text):
    paths = {path for path, _ in faults(reader, of_topic(text))}
    assert paths == {"Subscription.criteria.extension[0]"}


def test_a_topic_needs_to_be_told_how_much(reader):
    found = of_topic()
    del found["channel"]["_payload"]
    ((path, _),) = faults(reader, found)
    assert path == "Subscription.channel.payload.extension"


def test_numbers_of_the_channel_have_bounds(reader):
    found = reader.parse(KEY, 1, of_topic(extensions=[("max-count", 5_000), ("timeout", 9)]), NOW)
    assert (found.channel.max_count, found.channel.timeout_seconds) == (100, 9)
    assert faults(reader, of_topic(extensions=[("heartbeat-period", 0)]))


def test_what_is_no_subscription_at_all_is_refused_without_its_content(reader):
    for broken in ({}, {"criteria": 1}, {**subscription(), "end": "tomorrow"}):
        ((_, diagnostics),) = faults(reader, {"resourceType": "Subscription", **broken})
        assert "tomorrow" not in diagnostics


@pytest.mark.parametrize(
    ("resource", "ids"),
    [
        (subscription("Observation?patient=Patient/p1,Patient/p2"), {"p1", "p2"}),
        (subscription("Observation?subject=p1&code=x"), {"p1"}),
        (subscription("Observation?code=x"), None),
        (subscription("Observation?subject:missing=true"), None),
        (subscription("Observation?subject=https://other.example/Patient/p1"), None),
        (of_topic("Observation?patient=Patient/p1"), {"p1"}),
        (of_topic(), None),
    ],
)
def test_the_ids_that_a_wanted_resource_must_refer_to_are_known(reader, resource, ids):
    assert reader.parse(KEY, 1, resource, NOW).referred_ids() == ids


class TestChecks:
    @pytest.fixture
    def checks(self, definitions, reader):
        return SubscriptionChecks(definitions.validator, reader, OutboundPolicy(), lambda: NOW)

    def test_a_good_one_and_other_resources_pass(self, checks):
        assert checks.check(subscription()) == ()
        assert checks.check({"resourceType": "Patient"}) == ()

    @pytest.mark.parametrize("status", ["active", "error"])
    def test_the_server_alone_says_active_and_error(self, checks, status):
        (issue,) = checks.check({**subscription(), "status": status})
        assert issue.expression == "Subscription.status"

    @pytest.mark.parametrize(
        "endpoint", ["http://a.example/", "https://10.0.0.1/", "https://localhost/", "ftp://a/"]
    )
    def test_an_endpoint_that_nobody_may_be_sent_to_is_refused(self, checks, endpoint):
        (issue,) = checks.check(subscription(endpoint=endpoint))
        assert issue.expression == "Subscription.channel.endpoint"
        assert endpoint not in issue.diagnostics

    def test_structure_comes_first(self, checks):
        broken = {**subscription(), "channel": []}
        assert all("channel" in str(issue.expression) for issue in checks.check(broken))
