"""Every example that R4 publishes is taken, and given back the same in JSON and in XML."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fhir_server.core import resource_json
from tests.conformance.conftest import Client, Server

PACKED = Path(__file__).parents[1] / "r4_examples" / "examples.tar.xz"
JSON = {"Content-Type": "application/fhir+json"}
XML = {"Content-Type": "application/fhir+xml"}

# Published, and against R4's own rules; where. An error of a Subscription a server alone says.
BROKEN = {
    "DeviceMetric-example.json": "DeviceMetric.parent.reference",
    "DeviceUseStatement-example.json": "DeviceUseStatement.reasonReference[0].reference",
    # An image from outside tells another server who is looked at.
    "Media-1.2.840.11361907579238403408700.3.1.04.19970327150033.json": "Media.text.div",
    "MedicationRequest-medrx0301.json": "MedicationRequest.dispenseRequest.performer.reference",
    "Observation-clinical-gender.json": "Observation.performer[0].reference",
    "Questionnaire-qs1.json": "Questionnaire.item[0].item[0].linkId",
    "Subscription-example-error.json": "Subscription.status",
}


def examples():
    with tarfile.open(PACKED) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}


EXAMPLES = examples()


@pytest.fixture(scope="module")
def client():
    # Its own: Subscriptions among them would be told of what other tests do.
    with Server() as server:
        yield Client(server)


def without_servers_meta(body):
    """The resource as it was sent, in one spelling."""
    resource = resource_json.parse(body)
    meta = resource.pop("meta", {})
    for name in ("versionId", "lastUpdated"):
        meta.pop(name, None)
    return resource_json.format_sorted({**resource, "meta": meta} if meta else resource)


def trial(client, body):
    """What became of an example that goes in as JSON, comes as XML and goes in again."""
    resource = resource_json.parse(body)
    path = f"{resource['resourceType']}/{resource['id']}"
    made = client.send("PUT", path, data=body, headers=JSON)
    if made.status_code != 201:
        return f"{made.status_code}: {made.text}"
    if without_servers_meta(client.get(path).content) != without_servers_meta(body):
        return "JSON is another"
    xml = client.get(path, headers={"Accept": "application/fhir+xml"}).content
    again = client.send("PUT", path, data=xml, headers=XML)
    # What says the same makes no new version.
    if again.status_code != 200 or again.headers["ETag"] != 'W/"1"':
        return f"XML is another: {again.status_code} {again.text}"
    return None


def test_an_example_comes_back_as_it_went_in(client):
    good = {name: body for name, body in EXAMPLES.items() if name not in BROKEN}
    with ThreadPoolExecutor(2) as pool:
        faults = list(pool.map(lambda body: trial(client, body), good.values()))
    assert {n: fault for n, fault in zip(good, faults, strict=True) if fault} == {}


@pytest.mark.parametrize("name", BROKEN)
def test_an_example_against_the_rules_is_refused_where_it_is_wrong(client, name):
    resource = resource_json.parse(EXAMPLES[name])
    path = f"{resource['resourceType']}/{resource['id']}"
    refused = client.send("PUT", path, data=EXAMPLES[name], headers=JSON)
    assert refused.status_code == 422
    assert BROKEN[name] in [each for i in client.issues(refused) for each in i["expression"]]
