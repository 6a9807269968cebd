"""create, update and delete: https://hl7.org/fhir/R4/http.html#create."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

PATIENT = {"resourceType": "Patient", "gender": "female"}


def test_create_gives_an_id_and_says_where(client):
    response = client.post("Patient", PATIENT)
    stored = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"{client.base}/Patient/{stored['id']}/_history/1"
    assert response.headers["ETag"] == 'W/"1"'
    assert response.headers["Last-Modified"].endswith("GMT")
    assert response.headers["Content-Type"] == "application/fhir+json; charset=utf-8"
    assert stored["meta"]["versionId"] == "1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stored["meta"]["lastUpdated"])
    assert stored["gender"] == "female"


def test_create_takes_no_id_and_no_version_from_the_client(client):
    sent = {**PATIENT, "id": "mine", "meta": {"versionId": "9", "tag": [{"code": "x"}]}}
    stored = client.create(sent)
    assert stored["id"] != "mine"
    assert stored["meta"]["versionId"] == "1"
    assert stored["meta"]["tag"] == [{"code": "x"}]


@pytest.mark.parametrize(
    ("preferred", "kind"),
    [("minimal", None), ("representation", "Patient"), ("OperationOutcome", "OperationOutcome")],
)
def test_prefer_decides_what_a_create_returns(client, preferred, kind):
    response = client.post("Patient", PATIENT, headers={"Prefer": f"return={preferred}"})
    assert response.status_code == 201
    assert response.headers["Location"]
    if kind is None:
        assert response.content == b""
    else:
        assert response.json()["resourceType"] == kind


def test_decimals_keep_their_digits(client):
    body = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},'
        b'"valueQuantity":{"value":1.50,"unit":"kg"},'
        b'"component":[{"code":{"text":"y"},"valueQuantity":{"value":0.0100}}]}'
    )
    headers = {"Content-Type": "application/fhir+json"}
    created = client.send("POST", "Observation", data=body, headers=headers)
    assert created.status_code == 201, created.text
    read = client.get(f"Observation/{created.json()['id']}")
    assert b'"value":1.50,' in read.content
    assert b'"value":0.0100}' in read.content


def test_absolute_reference_to_this_server_is_stored_relative(client):
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"{client.base}/Patient/abc"},
        "performer": [{"reference": "https://other.example/fhir/Practitioner/1"}],
    }
    stored = client.create(observation)
    assert stored["subject"]["reference"] == "Patient/abc"
    assert stored["performer"][0]["reference"] == "https://other.example/fhir/Practitioner/1"


def test_absolute_reference_with_escaped_slashes_is_stored_relative(client):
    body = json.dumps(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": f"{client.base}/Patient/abc"},
        }
    ).replace("/", "\\/")
    headers = {"Content-Type": "application/fhir+json"}
    response = client.send("POST", "Observation", data=body, headers=headers)
    assert response.json()["subject"]["reference"] == "Patient/abc"


def test_wrong_resource_is_told_with_the_path_of_every_fault(client):
    wrong = {
        "resourceType": "Observation",
        "status": "finished",
        "code": {"text": "x"},
        "effectiveDateTime": "2024-02-30",
        "foo": 1,
    }
    response = client.post("Observation", wrong)
    assert response.status_code == 422
    expressions = {issue["expression"][0] for issue in client.issues(response)}
    assert {"Observation.status", "Observation.foo"} <= expressions
    assert "2024-02-30" not in response.text


def test_body_of_another_type_is_refused(client):
    response = client.post("Observation", PATIENT)
    assert response.status_code == 400
    response = client.put("Observation/1", {**PATIENT, "id": "1"})
    assert response.status_code == 400


def test_if_none_exist_creates_once(client, unique):
    patient = {**PATIENT, "identifier": [{"system": "urn:s", "value": unique}]}
    headers = {"If-None-Exist": f"identifier=urn:s|{unique}"}
    first = client.post("Patient", patient, headers=headers)
    second = client.post("Patient", patient, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["ETag"] == 'W/"1"'


def test_if_none_exist_with_several_matches_is_refused(client, unique):
    patient = {**PATIENT, "identifier": [{"system": "urn:s", "value": unique}]}
    client.create(patient)
    client.create(patient)
    headers = {"If-None-Exist": f"identifier=urn:s|{unique}"}
    response = client.post("Patient", patient, headers=headers)
    assert response.status_code == 412
    assert client.issues(response)[0]["code"] == "multiple-matches"


@pytest.mark.parametrize("condition", ["", "nonsense=1", "identifier=", "_count=1", "_sort=name"])
def test_if_none_exist_that_means_nothing_is_refused(client, condition):
    response = client.post("Patient", PATIENT, headers={"If-None-Exist": condition})
    assert response.status_code in (400, 412)


def test_update_creates_under_the_clients_id(client, unique):
    response = client.put(f"Patient/{unique}", {**PATIENT, "id": unique})
    assert response.status_code == 201
    assert response.headers["Location"] == f"{client.base}/Patient/{unique}/_history/1"


def test_update_makes_the_next_version(client):
    stored = client.create(PATIENT)
    response = client.put(f"Patient/{stored['id']}", {**stored, "gender": "male"})
    assert response.status_code == 200
    assert response.headers["ETag"] == 'W/"2"'
    assert response.json()["gender"] == "male"


def test_update_that_changes_nothing_makes_no_version(client):
    stored = client.create({**PATIENT, "meta": {"tag": [{"code": "t"}]}})
    sent = {**stored, "meta": {"versionId": "77", "tag": [{"code": "t"}]}}
    response = client.put(f"Patient/{stored['id']}", sent)
    assert response.status_code == 200
    assert response.headers["ETag"] == 'W/"1"'
    assert response.json() == stored


def test_update_of_a_decimals_digits_is_a_change(client):
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "valueQuantity": {"value": 1.5},
    }
    stored = client.create(observation)
    body = json.dumps({**observation, "id": stored["id"]}).replace("1.5", "1.50")
    headers = {"Content-Type": "application/json"}
    response = client.send("PUT", f"Observation/{stored['id']}", data=body, headers=headers)
    assert response.headers["ETag"] == 'W/"2"'


@pytest.mark.parametrize("change", [{"id": "other"}, {"id": None}, {"id": 1}])
def test_update_with_another_id_in_the_body_is_refused(client, change, unique):
    body = {k: v for k, v in {**PATIENT, **change}.items() if v is not None}
    response = client.put(f"Patient/{unique}", body)
    assert response.status_code == 400
    assert client.issues(response)[0]["expression"] == ["Patient.id"]


def test_update_under_an_illegal_id_is_refused(client):
    for illegal in ("a" * 65, "a_b", "a+b"):
        response = client.put(f"Patient/{illegal}", {**PATIENT, "id": illegal})
        assert response.status_code == 400


def test_if_match_of_the_current_version_updates(client):
    stored = client.create(PATIENT)
    headers = {"If-Match": 'W/"7", W/"1"'}
    response = client.put(f"Patient/{stored['id']}", {**stored, "gender": "male"}, headers=headers)
    assert response.status_code == 200


def test_if_match_of_another_version_is_refused(client):
    stored = client.create(PATIENT)
    path = f"Patient/{stored['id']}"
    changed = {**stored, "gender": "male"}
    assert client.put(path, changed, headers={"If-Match": 'W/"2"'}).status_code == 412
    assert client.put(path, changed, headers={"If-Match": "nonsense tag"}).status_code == 400
    assert client.delete(path, headers={"If-Match": 'W/"2"'}).status_code == 412
    assert client.get(path).headers["ETag"] == 'W/"1"'


def test_if_match_never_creates(client, unique):
    for tag in ('W/"1"', "*"):
        response = client.put(
            f"Patient/{unique}", {**PATIENT, "id": unique}, headers={"If-Match": tag}
        )
        assert response.status_code == 412


def test_if_none_match_star_only_creates(client, unique):
    body = {**PATIENT, "id": unique}
    headers = {"If-None-Match": "*"}
    assert client.put(f"Patient/{unique}", body, headers=headers).status_code == 201
    assert client.put(f"Patient/{unique}", body, headers=headers).status_code == 412


def test_delete_leaves_a_gone_resource_with_its_history(client):
    stored = client.create(PATIENT)
    path = f"Patient/{stored['id']}"
    deleted = client.delete(path)
    assert deleted.status_code == 204
    assert deleted.content == b""
    assert deleted.headers["ETag"] == 'W/"2"'
    read = client.get(path)
    assert read.status_code == 410
    assert read.headers["ETag"] == 'W/"2"'
    assert client.issues(read)[0]["code"] == "deleted"
    assert client.get(f"{path}/_history/1").json() == stored
    assert client.get(f"{path}/_history/2").status_code == 410


def test_delete_again_or_of_nothing_is_no_error(client, unique):
    stored = client.create(PATIENT)
    path = f"Patient/{stored['id']}"
    client.delete(path)
    again = client.delete(path)
    assert again.status_code in (200, 204)
    assert again.headers["ETag"] == 'W/"2"'
    assert client.delete(f"Patient/{unique}").status_code in (200, 204)
    assert client.get(f"Patient/{unique}").status_code == 404


def test_update_revives(client):
    stored = client.create(PATIENT)
    path = f"Patient/{stored['id']}"
    client.delete(path)
    revived = client.put(path, stored)
    assert revived.status_code == 201
    assert revived.headers["ETag"] == 'W/"3"'
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{}",
        b'{"resourceType":1}',
        b'{"resourceType":"Patient","gender":"\xff"}',
        b'{"resourceType":"Patient","name":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"resourceType":"Patient","extension":'
        + b'[{"extension":' * 900
        + b"[]"
        + b"}]" * 900
        + b"}",
        b'{"resourceType":"Patient","multipleBirthInteger":1e999999999999999999999}',
        b'{"resourceType":"Patient","meta":[]}',
        b'{"resourceType":"Patient","meta":null}',
        b'{"resourceType":"Patient","id":{}}',
        b'{"resourceType":"Patient","name":null}',
        b'{"resourceType":"Patient","name":"\\ud800"}',
    ],
)
def test_hostile_body_is_a_clear_refusal(client, body):
    response = client.send(
        "POST", "Patient", data=body, headers={"Content-Type": "application/fhir+json"}
    )
    assert response.status_code in (400, 422), response.text
    assert client.issues(response)


def test_list_of_100_000_elements_is_answered(client):
    body = b'{"resourceType":"Patient","name":[' + b",".join([b"{}"] * 100_000) + b"]}"
    response = client.send(
        "POST", "Patient", data=body, headers={"Content-Type": "application/fhir+json"}
    )
    assert response.status_code == 422


def test_of_two_writers_with_the_same_etag_one_wins(client):
    stored = client.create(PATIENT)
    path = f"Patient/{stored['id']}"
    headers = {"If-Match": 'W/"1"'}

    def write(number):
        changed = {**stored, "multipleBirthInteger": number}
        return client.put(path, changed, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        told = sorted(pool.map(write, range(8)))
    assert told == [200] + [412] * 7
    assert client.get(path).headers["ETag"] == 'W/"2"'
