"""Profiles over HTTP: claims on writes, profiles that are POSTed, $validate.

https://hl7.org/fhir/R4/validation.html
"""

import pytest

BP = "http://hl7.org/fhir/StructureDefinition/bp"
OURS = "https://pmp.example/fhir/StructureDefinition/"


def weighed(url, **more):
    return {
        "resourceType": "Observation",
        "meta": {"profile": [url]},
        "status": "final",
        "code": {"text": "x"},
        **more,
    }


def profile(url, **more):
    return {
        "resourceType": "StructureDefinition",
        "url": url,
        "name": "Tested",
        "status": "draft",
        "kind": "resource",
        "abstract": False,
        "type": "Observation",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Observation",
        "derivation": "constraint",
        "differential": {
            "element": [
                {"id": "Observation.method", "path": "Observation.method", "min": 1},
                {
                    "id": "Observation.device",
                    "path": "Observation.device",
                    "mustSupport": True,
                },
            ]
        },
        **more,
    }


def issues(response):
    assert response.json()["resourceType"] == "OperationOutcome", response.text
    return {
        (i["severity"], i["code"], (i.get("expression") or [None])[0])
        for i in response.json()["issue"]
    }


@pytest.fixture
def url(unique):
    return f"https://pmp.example/fhir/StructureDefinition/{unique}"


def test_a_claim_that_does_not_hold_is_refused_with_all_its_faults(client):
    response = client.post("Observation", weighed(BP))
    assert response.status_code == 422
    assert ("error", "required", "Observation.subject") in issues(response)
    assert ("error", "required", "Observation.component") in issues(response)
    sources = [i["extension"][0]["valueString"] for i in response.json()["issue"]]
    assert all(source.startswith(BP + "#") for source in sources)


@pytest.mark.timeout(60)
def test_a_hostile_pattern_holds_no_write_up(client, url):
    constraint = {
        "key": "t-1",
        "severity": "error",
        "human": "no end",
        "expression": "code.text.matches('^(a|a?)+$')",
    }
    hostile = {"id": "Observation", "path": "Observation", "constraint": [constraint]}
    posted = client.post("StructureDefinition", profile(url, differential={"element": [hostile]}))
    assert posted.status_code == 201
    good = weighed(url, code={"text": "a" * 5_000})
    assert client.post("Observation", good).status_code == 201
    response = client.post("Observation", weighed(url, code={"text": "a" * 5_000 + "!"}))
    assert response.status_code == 422
    assert issues(response) == {("error", "invariant", "Observation")}


def test_a_claim_to_an_unknown_profile_is_stored_and_told(client, url):
    response = client.post(
        "Observation", weighed(url), headers={"Prefer": "return=OperationOutcome"}
    )
    assert response.status_code == 201
    assert issues(response) == {("warning", "not-found", "Observation.meta.profile")}


def test_a_posted_profile_counts_from_the_next_write_until_it_is_deleted(client, url):
    assert client.post("Observation", weighed(url)).status_code == 201
    stored = client.create(profile(url))
    refused = client.post("Observation", weighed(url))
    assert refused.status_code == 422
    assert issues(refused) == {("error", "required", "Observation.method")}
    assert client.post("Observation", weighed(url, method={"text": "m"})).status_code == 201
    client.delete(f"StructureDefinition/{stored['id']}")
    assert client.post("Observation", weighed(url)).status_code == 201


def test_a_profile_that_cannot_be_used_is_refused(client, url):
    element = {"id": "Observation.colour", "path": "Observation.colour", "min": 1}
    response = client.post("StructureDefinition", profile(url, differential={"element": [element]}))
    assert response.status_code == 422
    assert issues(response) == {("error", "not-supported", "StructureDefinition")}


def test_a_transaction_is_refused_for_a_claim_of_one_entry(client):
    entry = {"resource": weighed(BP), "request": {"method": "POST", "url": "Observation"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert client.post("", bundle).status_code == 422


def test_validate_takes_the_resource_as_its_body(client):
    response = client.post("Observation/$validate", weighed(BP))
    assert response.status_code == 200
    assert ("error", "required", "Observation.subject") in issues(response)


def test_validate_stores_nothing(client, unique):
    resource = {"resourceType": "Basic", "id": unique, "code": {"text": "x"}}
    response = client.post("Basic/$validate", resource)
    assert issues(response) == {("information", "informational", None)}
    assert client.get(f"Basic/{unique}").status_code == 404


def test_a_profile_that_nothing_could_claim_is_refused(client, url):
    nameless = profile(url)
    del nameless["url"]
    response = client.post("StructureDefinition", nameless)
    assert response.status_code == 422
    assert ("error", "required", "StructureDefinition.url") in issues(response)


def test_validate_holds_against_a_profile_that_is_asked_for(client, url):
    client.create(profile(url))
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "resource", "resource": resource},
            {"name": "profile", "valueUri": url},
        ],
    }
    response = client.post("Observation/$validate", parameters)
    assert issues(response) == {
        ("error", "required", "Observation.method"),
        ("information", "informational", "Observation.device"),
    }


def test_validate_refuses_a_profile_that_nobody_knows(client, url):
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    response = client.post(f"Observation/$validate?profile={url}", resource)
    assert issues(response) == {("error", "not-found", "Observation.meta.profile")}


def test_validate_looks_at_what_is_stored(client, url):
    stored = client.create(weighed(url, method={"text": "m"}))
    path = f"Observation/{stored['id']}/$validate"
    assert issues(client.get(path)) == {("warning", "not-found", "Observation.meta.profile")}
    response = client.get(path + f"?profile={BP}")
    assert ("error", "required", "Observation.subject") in issues(response)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Observation/$validate?mode=update", 400),
        ("Observation/$validate?mode=delete", 400),
        ("Observation/$validate?mode=other", 400),
        ("Observation/$validate", 400),
        ("Observation/nobody/$validate", 404),
        ("Observation/nobody/$validate?mode=create", 400),
    ],
)
def test_validate_refuses_what_it_cannot_answer(client, path, status):
    assert client.get(path).status_code == status


def test_validate_of_a_deletion_asks_whether_the_resource_is_there(client):
    stored = client.create({"resourceType": "Basic", "code": {"text": "x"}})
    path = f"Basic/{stored['id']}/$validate?mode=delete"
    assert issues(client.get(path)) == {("information", "informational", None)}
    client.delete(f"Basic/{stored['id']}")
    assert issues(client.get(path)) == {("error", "deleted", None)}


def test_validate_of_an_update_compares_the_id(client):
    stored = client.create({"resourceType": "Basic", "code": {"text": "x"}})
    other = {"resourceType": "Basic", "id": "other", "code": {"text": "x"}}
    response = client.post(f"Basic/{stored['id']}/$validate?mode=update", other)
    assert issues(response) == {("error", "invalid", "Basic.id")}


def test_validate_tells_another_type_than_the_url(client):
    response = client.post("Patient/$validate", {"resourceType": "Basic", "code": {"text": "x"}})
    assert issues(response) == {("error", "invalid", "Resource.resourceType")}


def test_every_profile_of_ours_that_is_claimed_to_be_supported_can_be_read(client):
    (rest,) = client.get("metadata").json()["rest"]
    supported = {
        url: each["type"]
        for each in rest["resource"]
        for url in each.get("supportedProfile", ())
        if url.startswith("https://pmp.example/fhir/")
    }
    assert len(supported) >= 16
    for url, resource_type in supported.items():
        (entry,) = client.get(f"StructureDefinition?url={url}").json()["entry"]
        assert entry["resource"]["type"] == resource_type
        assert entry["resource"]["id"] == url.rpartition("/")[2]


def test_r4s_vital_signs_are_supported_too(client):
    (rest,) = client.get("metadata").json()["rest"]
    (observation,) = [each for each in rest["resource"] if each["type"] == "Observation"]
    assert BP in observation["supportedProfile"]


def test_what_a_device_sent_is_valid_by_its_profile_and_by_r4s(client, server, unique):
    device = client.create(
        {"resourceType": "Device", "identifier": [{"system": "urn:serial", "value": unique}]}
    )
    patient = client.create({"resourceType": "Patient"})
    client.create(
        {
            "resourceType": "DeviceUseStatement",
            "meta": {"profile": [OURS + "device-assignment"]},
            "status": "active",
            "subject": {"reference": f"Patient/{patient['id']}"},
            "device": {"reference": f"Device/{device['id']}"},
            "timingPeriod": {"start": "2024-01-01"},
        }
    )
    payload = {
        "type": "Blood Pressure",
        "time": "2024-03-10T08:00:00Z",
        "device": unique,
        "values": {"systolic": 128, "diastolic": 79},
    }
    sent = client.post(f"{server.url}/readings/iot-hub", payload).json()
    (reference,) = sent["results"][0]["resources"]
    stored = client.get(reference).json()
    assert stored["meta"]["profile"] == [BP, OURS + "home-blood-pressure"]
    for url in (*stored["meta"]["profile"], OURS + "device-reading"):
        response = client.get(f"{reference}/$validate?profile={url}")
        assert {severity for severity, _, _ in issues(response)} <= {"information"}
    refused = client.get(f"{reference}/$validate?profile={OURS}home-pulse")
    assert "error" in {severity for severity, _, _ in issues(refused)}
    found = client.get(f"Observation?_profile={OURS}home-blood-pressure&device={device['id']}")
    assert [e["resource"]["id"] for e in found.json()["entry"]] == [stored["id"]]


def test_a_shipped_profile_cannot_be_written_over(client):
    shipped = client.get("StructureDefinition/home-device").json()
    loose = {**shipped, "differential": {"element": [{"id": "Device", "path": "Device"}]}}
    assert client.put("StructureDefinition/home-device", loose).status_code == 405
    device = {"resourceType": "Device", "meta": {"profile": [OURS + "home-device"]}}
    assert client.post("Device", device).status_code == 422


def test_the_worst_is_told_first(client):
    query = "Observation/$validate?profile=http://hl7.org/fhir/StructureDefinition/heartrate"
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    severities = [issue["severity"] for issue in client.post(query, resource).json()["issue"]]
    order = ["fatal", "error", "warning", "information"]
    assert severities == sorted(severities, key=order.index)
    assert {"error", "information"} <= set(severities)
