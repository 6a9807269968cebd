"""patch, alone and in Bundles: https://hl7.org/fhir/R4/http.html#patch."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.bundles import entry
from tests.conformance.patches import (
    FHIR_JSON,
    JSON_PATCH,
    MERGE_PATCH,
    REPLACE,
    SAME,
    fhirpath,
    patch,
    path_of,
)


@pytest.fixture
def stored(client, unique):
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:s", "value": unique}],
        "gender": "female",
        "birthDate": "1980-01-01",
    }
    return client.create(patient)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON_PATCH, REPLACE),
        (JSON_PATCH + "; charset=utf-8", REPLACE),
        (MERGE_PATCH, {"gender": "male"}),
        (FHIR_JSON, fhirpath("replace", "Patient.gender", value={"valueCode": "male"})),
        ("application/json", fhirpath("replace", "Patient.gender", value={"valueCode": "male"})),
        ("application/json", REPLACE),
        ("application/json", {"gender": "male"}),
    ],
)
def test_a_patch_makes_the_next_version(client, stored, content_type, body):
    response = patch(client, path_of(stored), body, content_type)

    assert response.status_code == 200, response.text
    assert response.headers["ETag"] == 'W/"2"'
    assert response.headers["Content-Type"] == "application/fhir+json; charset=utf-8"
    told = response.json()
    assert told["gender"] == "male"
    assert told["birthDate"] == "1980-01-01"
    assert told["meta"]["versionId"] == "2"
    assert client.get(path_of(stored)).json() == told


def test_a_patch_in_xml_is_taken(client, stored):
    body = """<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>
        <part><name value="type"/><valueCode value="add"/></part>
        <part><name value="path"/><valueString value="Patient"/></part>
        <part><name value="name"/><valueString value="contact"/></part>
        <part><name value="value"/>
            <part><name value="name"/><valueHumanName><text value="N"/></valueHumanName></part>
        </part>
    </parameter></Parameters>"""

    response = patch(client, path_of(stored), body, "application/fhir+xml", Accept=FHIR_JSON)

    assert response.status_code == 200, response.text
    assert response.json()["contact"] == [{"name": {"text": "N"}}]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON_PATCH, SAME),
        (JSON_PATCH, []),
        (JSON_PATCH, [{"op": "replace", "path": "/meta/versionId", "value": "9"}]),
        (MERGE_PATCH, {}),
        (FHIR_JSON, fhirpath("delete", "Patient.maritalStatus")),
    ],
)
def test_a_patch_that_changes_nothing_makes_no_version(client, stored, content_type, body):
    response = patch(client, path_of(stored), body, content_type)

    assert response.status_code == 200
    assert response.headers["ETag"] == 'W/"1"'
    assert response.json() == stored


def test_decimals_keep_their_digits_after_a_patch(client):
    body = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},'
        b'"valueQuantity":{"value":1.50,"unit":"kg"}}'
    )
    created = client.send("POST", "Observation", data=body, headers={"Content-Type": FHIR_JSON})
    operations = b'[{"op":"add","path":"/referenceRange","value":[{"low":{"value":2.00}}]}]'

    response = patch(client, path_of(created.json()), operations)

    assert b'"value":1.50,' in response.content
    assert b'"value":2.00}' in response.content


@pytest.mark.parametrize(("tag", "status"), [('W/"1"', 200), ('W/"7", W/"1"', 200), ('W/"2"', 412)])
def test_if_match_guards_a_patch(client, stored, tag, status):
    response = patch(client, path_of(stored), REPLACE, **{"If-Match": tag})

    assert response.status_code == status
    assert client.get(path_of(stored)).headers["ETag"] == f'W/"{2 if status == 200 else 1}"'


def test_if_match_comes_before_the_patch_itself(client, stored):
    failing = [{"op": "test", "path": "/gender", "value": "unknown"}]

    response = patch(client, path_of(stored), failing, **{"If-Match": 'W/"9"'})

    assert response.status_code == 412


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON_PATCH, [{"op": "test", "path": "/gender", "value": "male"}, *REPLACE]),
        (JSON_PATCH, [{"op": "remove", "path": "/deceasedBoolean"}]),
        (JSON_PATCH, [{"op": "replace", "path": "/gender", "value": "wrong"}]),
        (JSON_PATCH, [{"op": "add", "path": "/nonsense", "value": 1}]),
        (JSON_PATCH, [{"op": "replace", "path": "/id", "value": "other"}]),
        (JSON_PATCH, [{"op": "replace", "path": "/resourceType", "value": "Person"}]),
        (MERGE_PATCH, {"birthDate": "2024-02-30"}),
        (MERGE_PATCH, {"id": "other"}),
        (FHIR_JSON, fhirpath("delete", "Patient.identifier.foo")),
        (FHIR_JSON, fhirpath("replace", "Patient.gender", value={"valueBoolean": True})),
    ],
)
def test_a_patch_that_does_not_go_with_the_resource_is_unprocessable(
    client, stored, content_type, body
):
    response = patch(client, path_of(stored), body, content_type)

    assert response.status_code == 422
    assert client.issues(response)[0]["diagnostics"]
    assert client.get(path_of(stored)).json() == stored


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (JSON_PATCH, "{", 400),
        (JSON_PATCH, {}, 400),
        (MERGE_PATCH, [], 400),
        (FHIR_JSON, {"resourceType": "Patient"}, 400),
        (FHIR_JSON, fhirpath("shake", "Patient"), 400),
        ("application/fhir+xml", "<x>", 400),
        ("application/xml-patch+xml", "<diff/>", 415),
        ("text/plain", "x", 415),
    ],
)
def test_what_is_no_patch_is_refused(client, stored, content_type, body, status):
    response = patch(client, path_of(stored), body, content_type, Accept=FHIR_JSON)

    assert response.status_code == status
    assert client.issues(response)


def test_only_what_is_there_can_be_patched(client, stored):
    assert patch(client, "Patient/none-such", REPLACE).status_code == 404
    assert patch(client, "Patient/no_id", REPLACE).status_code == 404
    assert patch(client, "Nothing/1", REPLACE).status_code == 404
    client.delete(path_of(stored))
    assert patch(client, path_of(stored), REPLACE).status_code == 410


def test_absolute_reference_to_this_server_is_patched_in_relative(client, stored):
    value = {"reference": f"{client.base}/Organization/o"}
    added = [{"op": "add", "path": "/managingOrganization", "value": value}]

    response = patch(client, path_of(stored), added)

    assert response.json()["managingOrganization"] == {"reference": "Organization/o"}


@pytest.mark.parametrize(
    ("preferred", "kind"),
    [("minimal", None), ("representation", "Patient"), ("OperationOutcome", "OperationOutcome")],
)
def test_prefer_decides_what_a_patch_returns(client, stored, preferred, kind):
    response = patch(client, path_of(stored), REPLACE, Prefer=f"return={preferred}")

    assert response.status_code == 200
    if kind is None:
        assert response.content == b""
    else:
        assert response.json()["resourceType"] == kind


def test_a_conditional_patch_is_for_what_matches(client, stored, unique):
    where = f"Patient?identifier=urn:s|{unique}"

    assert patch(client, where, REPLACE).json()["id"] == stored["id"]
    assert patch(client, where, SAME, **{"If-Match": 'W/"1"'}).status_code == 412
    assert patch(client, where + "none", REPLACE).status_code == 404
    client.create({**stored, "gender": "other"})
    assert patch(client, where, REPLACE).status_code == 412


@pytest.mark.parametrize("query", ["", "?", "?nonsense=1", "?gender:nonsense=male", "?_count=1"])
def test_a_condition_that_means_nothing_is_refused(client, stored, query):
    assert patch(client, f"Patient{query}", REPLACE).status_code == 400


def test_patches_at_the_same_moment_lose_nothing(client, stored):
    barrier = threading.Barrier(8)

    def add(number):
        value = {"system": "urn:n", "value": str(number)}
        operations = [{"op": "add", "path": "/identifier/-", "value": value}]
        barrier.wait()
        return patch(client, path_of(stored), operations).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(add, range(8))) == [200] * 8
    patient = client.get(path_of(stored)).json()
    assert patient["meta"]["versionId"] == "9"
    assert {i["value"] for i in patient["identifier"][1:]} == {str(n) for n in range(8)}


def test_of_patches_with_one_etag_one_wins(client, stored):
    barrier = threading.Barrier(8)

    def change(number):
        operations = [{"op": "replace", "path": "/birthDate", "value": f"198{number}-02-02"}]
        barrier.wait()
        return patch(client, path_of(stored), operations, **{"If-Match": 'W/"1"'}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(change, range(8))) == [200] + [412] * 7


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "test", "path": "/gender", "value": "female"}] * 100_000,
        [{"op": "add", "path": "/a" * 500_000, "value": 1}],
        [{"op": "copy", "from": "", "path": f"/x{i}"} for i in range(100)],
    ],
)
def test_hostile_patches_are_refused(client, stored, operations):
    response = patch(client, path_of(stored), operations)

    assert response.status_code in (400, 422)
    assert client.issues(response)


def binary(operations, content_type=JSON_PATCH):
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"resourceType": "Binary", "contentType": content_type, "data": data}


def carry_out(client, kind, *entries):
    return client.post("", {"resourceType": "Bundle", "type": kind, "entry": list(entries)})


def statuses(response):
    assert response.status_code == 200, response.text
    return [e["response"]["status"][:3] for e in response.json()["entry"]]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize(
    "resource",
    [
        binary(REPLACE),
        binary({"gender": "male"}, MERGE_PATCH),
        fhirpath("replace", "Patient.gender", value={"valueCode": "male"}),
    ],
)
def test_an_entry_can_be_a_patch(client, stored, kind, resource):
    response = carry_out(client, kind, entry("PATCH", path_of(stored), resource))

    assert statuses(response) == ["200"]
    assert response.json()["entry"][0]["response"]["etag"] == 'W/"2"'
    assert client.get(path_of(stored)).json()["gender"] == "male"


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_an_entry_can_be_a_conditional_patch(client, stored, unique, kind):
    where = f"Patient?identifier=urn:s|{unique}"

    assert statuses(carry_out(client, kind, entry("PATCH", where, binary(REPLACE)))) == ["200"]
    assert client.get(path_of(stored)).json()["gender"] == "male"


def test_a_patch_that_changes_nothing_makes_no_version_in_a_transaction(client, stored):
    response = carry_out(client, "transaction", entry("PATCH", path_of(stored), binary(SAME)))

    assert response.json()["entry"][0]["response"]["etag"] == 'W/"1"'


def test_a_patch_follows_what_the_transaction_makes(client, stored, unique):
    urn = "urn:uuid:6a0ff2a5-2a0a-4a35-9a35-3b9be2c6a001"
    organization = {"resourceType": "Organization", "name": unique}
    add = [
        {"op": "add", "path": "/managingOrganization", "value": {"reference": urn}},
        {
            "op": "add",
            "path": "/generalPractitioner",
            "value": [{"reference": f"Organization?name={unique}"}],
        },
    ]

    response = carry_out(
        client,
        "transaction",
        entry("PATCH", path_of(stored), binary(add)),
        entry("POST", "Organization", organization, urn),
    )

    assert statuses(response) == ["200", "201"]
    made = response.json()["entry"][1]["response"]["location"].split("/_history")[0]
    patient = client.get(path_of(stored)).json()
    assert made.endswith(patient["managingOrganization"]["reference"])
    assert patient["generalPractitioner"] == [patient["managingOrganization"]]


@pytest.mark.parametrize(
    ("entries", "status"),
    [
        (lambda path: [entry("PATCH", path, binary([{"op": "remove", "path": "/x"}]))], 422),
        (lambda path: [entry("PATCH", path, binary(REPLACE), ifMatch='W/"9"')], 412),
        (lambda _: [entry("PATCH", "Patient/none-such", binary(REPLACE))], 404),
        (lambda _: [entry("PATCH", "Patient?identifier=urn:none|x", binary(REPLACE))], 404),
        (lambda path: [entry("PATCH", path)], 400),
        (lambda path: [entry("PATCH", path, {"resourceType": "Patient"})], 400),
        (lambda path: [entry("PATCH", path, binary(REPLACE, "text/plain"))], 415),
        (lambda path: [entry("PATCH", path, {**binary(REPLACE), "data": "x"})], 400),
        (
            lambda path: [
                entry("PATCH", path, binary(REPLACE)),
                entry("PATCH", path, binary(REPLACE)),
            ],
            400,
        ),
        (lambda path: [entry("DELETE", path), entry("PATCH", path, binary(REPLACE))], 400),
    ],
)
def test_a_patch_that_fails_fails_the_transaction(client, stored, unique, entries, status):
    creation = entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": unique}})

    response = carry_out(client, "transaction", creation, *entries(path_of(stored)))

    assert response.status_code == status, response.text
    assert client.issues(response)[0]["expression"][0].startswith("Bundle.entry[")
    assert client.get(path_of(stored)).json() == stored


def test_a_patch_that_fails_in_a_batch_fails_alone(client, stored):
    response = carry_out(
        client,
        "batch",
        entry("PATCH", path_of(stored), binary([{"op": "remove", "path": "/x"}])),
        entry("PATCH", "Patient/none-such", binary(REPLACE)),
        entry("PATCH", path_of(stored)),
        entry("GET", path_of(stored)),
    )

    assert statuses(response) == ["422", "404", "400", "200"]


def test_the_patch_formats_are_claimed(client):
    statement = client.get("metadata").json()

    assert statement["patchFormat"] == [
        JSON_PATCH,
        MERGE_PATCH,
        FHIR_JSON,
        "application/fhir+xml",
    ]
