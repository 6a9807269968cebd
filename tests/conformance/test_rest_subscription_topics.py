"""Topics over HTTP: listed, written by clients, and what becomes of those who subscribed.

https://hl7.org/fhir/uv/subscriptions-backport/components.html#subscription-topics-in-r4
"""

import time

import pytest

from tests.conformance.conftest import Client, Server

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
CROSS = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."
ARTIFACT = "http://hl7.org/fhir/StructureDefinition/artifact-"


@pytest.fixture(scope="module")
def client():
    with Server(deliver=True) as running:
        yield Client(running)


def topic(url, resource_type="Patient", criteria=None, filters=(), status="active"):
    trigger = [{"url": "resource", "valueUri": resource_type}]
    if criteria:
        inner = [{"url": "current", "valueString": criteria}]
        trigger.append({"url": "queryCriteria", "extension": inner})
    return {
        "resourceType": "Basic",
        "code": {
            "coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]
        },
        "extension": [
            {"url": ARTIFACT + "url", "valueUri": url},
            {"url": ARTIFACT + "status", "valueCode": status},
            {"url": CROSS + "resourceTrigger", "extension": trigger},
            *(
                {
                    "url": CROSS + "canFilterBy",
                    "extension": [{"url": "filterParameter", "valueString": each}],
                }
                for each in filters
            ),
        ],
    }


def subscription(url, *filters, status="requested"):
    content = {"url": f"{BACKPORT}backport-payload-content", "valueCode": "id-only"}
    found = {
        "resourceType": "Subscription",
        "status": status,
        "reason": "test",
        "criteria": url,
        "channel": {"type": "websocket", "_payload": {"extension": [content]}},
    }
    if filters:
        url = f"{BACKPORT}backport-filter-criteria"
        found["_criteria"] = {"extension": [{"url": url, "valueString": f} for f in filters]}
    return found


def wait_until(holds, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def total(client, resource_id):
    bundle = client.get(f"Subscription/{resource_id}/$status").json()
    parameters = bundle["entry"][0]["resource"]["parameter"]
    (found,) = [p for p in parameters if p["name"] == "events-since-subscription-start"]
    return int(found["valueString"])


def status(client, resource_id):
    return client.get(f"Subscription/{resource_id}").json()["status"]


def listed(client):
    (rest,) = client.get("metadata").json()["rest"]
    (found,) = [each for each in rest["resource"] if each["type"] == "Subscription"]
    url = f"{BACKPORT}capabilitystatement-subscriptiontopic-canonical"
    return {e["valueCanonical"] for e in found["extension"] if e["url"] == url}


def test_the_capability_statement_lists_the_topics_and_the_websocket(client, unique):
    shipped = "https://pmp.example/fhir/SubscriptionTopic/"
    names = "reading-accepted alert-raised alert-acknowledged care-plan-changed adherence-missed"
    assert listed(client) >= {shipped + name for name in names.split()}
    client.create(topic(f"urn:topic:{unique}"))
    assert f"urn:topic:{unique}" in listed(client)
    (rest,) = client.get("metadata").json()["rest"]
    websocket = {e["url"].rpartition("/")[2]: e["valueUri"] for e in rest["extension"]}
    assert websocket["capabilitystatement-websocket"] == (
        client.base.replace("http", "ws", 1) + "/websocket"
    )


def test_a_topic_that_a_client_wrote_can_be_subscribed_to_at_once(client, unique):
    url = f"https://a.example/{unique}"
    client.create(topic(url, criteria="active=true", filters=["gender"]))
    found = client.create(subscription(url, "Patient?gender=female"))["id"]
    wait_until(lambda: status(client, found) == "active")
    for gender, active in (("female", True), ("male", True), ("female", False)):
        client.create({"resourceType": "Patient", "gender": gender, "active": active})
    wait_until(lambda: total(client, found) == 1)
    client.create({"resourceType": "Patient", "gender": "female", "active": True})
    wait_until(lambda: total(client, found) == 2)
    assert client.post("Subscription", subscription(url, "Patient?name=x")).status_code == 422


def test_a_changed_topic_counts_from_there_on(client, unique):
    url = f"https://a.example/{unique}"
    written = client.create(topic(url, criteria="gender=female"))
    found = client.create(subscription(url))["id"]
    wait_until(lambda: status(client, found) == "active")
    for gender in ("female", "male"):
        client.create({"resourceType": "Patient", "gender": gender})
    wait_until(lambda: total(client, found) == 1)
    changed = {**topic(url, criteria="gender=male"), "id": written["id"]}
    assert client.put(f"Basic/{written['id']}", changed).status_code == 200
    for gender in ("female", "male", "male"):
        client.create({"resourceType": "Patient", "gender": gender})
    wait_until(lambda: total(client, found) == 3)
    assert status(client, found) == "active"


def test_who_subscribed_to_a_topic_that_is_no_more_is_told(client, unique):
    url = f"https://a.example/{unique}"
    written = client.create(topic(url))
    found = client.create(subscription(url))["id"]
    wait_until(lambda: status(client, found) == "active")
    assert client.delete(f"Basic/{written['id']}").status_code in (200, 204)
    wait_until(lambda: status(client, found) == "error")
    assert "cannot be evaluated" in client.get(f"Subscription/{found}").json()["error"]
    assert client.post("Subscription", subscription(url)).status_code == 422
    assert url not in listed(client)


def test_a_draft_cannot_be_subscribed_to_yet(client, unique):
    url = f"https://a.example/{unique}"
    written = client.create(topic(url, status="draft"))
    assert client.post("Subscription", subscription(url)).status_code == 422
    active = {**topic(url), "id": written["id"]}
    assert client.put(f"Basic/{written['id']}", active).status_code == 200
    assert client.post("Subscription", subscription(url)).status_code == 201


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (topic("https://a.example/1", criteria="colour=red"), "colour"),
        (topic("https://a.example/2", resource_type="Planet", criteria="a=b"), ""),
        (topic("https://pmp.example/fhir/SubscriptionTopic/alert-raised"), "another topic"),
        (topic(""), "url"),
    ],
)
def test_a_topic_that_cannot_be_evaluated_is_refused(client, broken, named):
    if not broken["extension"][0]["valueUri"]:
        del broken["extension"][0]
    answer = client.post("Basic", broken)
    assert answer.status_code == 422
    assert any(named in issue["diagnostics"] for issue in client.issues(answer))


def test_any_other_basic_is_none_of_this(client):
    client.create({"resourceType": "Basic", "code": {"text": "SubscriptionTopic"}})
