"""Notifications say what they must, and no more than the subscriber asked to be told."""

import json
from datetime import UTC, datetime

import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.notification import Event, Kind, Standing, notification
from fhir_server.core.subscription import Content, Status
from fhir_server.core.version import deletion, next_version

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
KEY = ResourceKey("Patient", "p1")
FIRST, _ = next_version(None, KEY, {"resourceType": "Patient", "birthDate": "1950-01-02"}, NOW)
STANDING = Standing(
    ResourceKey("Subscription", "s1"),
    Status.ACTIVE,
    "urn:topic",
    7,
    base_url="https://pmp.example/fhir/r4",
)
EVENTS = (Event(6, FIRST), Event(7, deletion(FIRST, NOW)))


def made(kind=Kind.EVENT, events=EVENTS, content=Content.FULL_RESOURCE, standing=STANDING):
    """As JSON, after somebody else has parsed it."""
    body = resource_json.format(notification(kind, standing, events, content, NOW))
    Bundle.model_validate_json(body)
    return json.loads(body)


def names(bundle):
    return [p["name"] for p in bundle["entry"][0]["resource"]["parameter"]]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("content", list(Content))
@pytest.mark.parametrize("base_url", ["", "https://pmp.example/fhir/r4"])
def test_every_notification_is_a_bundle_of_r4(kind, content, base_url):
    events = EVENTS if kind in (Kind.EVENT, Kind.QUERY_EVENT) else ()
    bundle = made(kind, events, content, STANDING._replace(base_url=base_url, error="x"))
    assert bundle["type"] == "history"
    status = bundle["entry"][0]
    assert status["request"]["url"].endswith("Subscription/s1/$status")
    assert status["fullUrl"] == f"urn:uuid:{status['resource']['id']}"


@pytest.mark.parametrize("content", [Content.EMPTY, Content.ID_ONLY])
def test_what_was_not_asked_for_is_not_told(content):
    text = json.dumps(made(content=content))
    assert "1950-01-02" not in text
    assert ("Patient/p1" in text) is (content is Content.ID_ONLY)
    assert len(made(content=content)["entry"]) == 1


def test_events_have_their_numbers_and_the_total_stands_beside_them():
    parameters = made(content=Content.ID_ONLY)["entry"][0]["resource"]["parameter"]
    by_name = {p["name"]: p for p in parameters}
    assert by_name["events-since-subscription-start"]["valueString"] == "7"
    numbers = [
        part["valueString"]
        for p in parameters
        for part in p.get("part", ())
        if part["name"] == "event-number"
    ]
    assert numbers == ["6", "7"]


def test_a_full_notification_has_the_stored_bytes_and_no_body_of_a_deletion():
    body = resource_json.format(
        notification(Kind.EVENT, STANDING, EVENTS, Content.FULL_RESOURCE, NOW)
    )
    assert FIRST.body in body
    first, second = made()["entry"][1:]
    assert first["response"]["status"] == "201"
    assert second["request"] == {"method": "DELETE", "url": "Patient/p1"}
    assert "resource" not in second


def test_an_empty_notification_does_not_name_its_topic():
    assert "topic" not in names(made(content=Content.EMPTY))
    assert "topic" in names(made(Kind.HANDSHAKE, (), Content.EMPTY))


def test_what_is_sent_again_can_be_recognized():
    ids = {made()["entry"][0]["resource"]["id"] for _ in range(2)}
    assert len(ids) == 1
    assert made(events=EVENTS[:1])["entry"][0]["resource"]["id"] not in ids
