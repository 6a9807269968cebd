"""Conditional update and delete: https://hl7.org/fhir/R4/http.html#cond-update."""

from concurrent.futures import ThreadPoolExecutor

import pytest


def patient(value, **more):
    identifier = [{"system": "urn:s", "value": value}]
    return {"resourceType": "Patient", "identifier": identifier, **more}


@pytest.fixture
def path(unique):
    return f"Patient?identifier=urn:s|{unique}"


def test_update_of_nothing_creates_and_of_one_updates(client, path, unique):
    created = client.put(path, patient(unique))
    updated = client.put(path, patient(unique, gender="male"))
    assert (created.status_code, updated.status_code) == (201, 200)
    assert updated.json()["id"] == created.json()["id"]
    assert updated.headers["ETag"] == 'W/"2"'


def test_update_that_changes_nothing_makes_no_version(client, path, unique):
    client.put(path, patient(unique))
    assert client.put(path, patient(unique)).headers["ETag"] == 'W/"1"'


def test_update_of_several_is_refused(client, path, unique):
    client.create(patient(unique))
    client.create(patient(unique))
    assert client.put(path, patient(unique)).status_code == 412
    assert len(client.found(path)) == 2


def test_update_under_another_id_than_the_match_is_refused(client, path, unique):
    client.create(patient(unique))
    response = client.put(path, patient(unique, id="other"))
    assert response.status_code == 400
    assert client.issues(response)[0]["expression"] == ["Patient.id"]


def test_update_of_nothing_takes_the_id_of_the_body_if_it_is_free(client, path, unique):
    assert client.put(path, patient(unique, id=unique)).json()["id"] == unique
    other = f"Patient?identifier=urn:s|{unique}-other"
    response = client.put(other, patient(f"{unique}-other", id=unique))
    assert response.status_code == 409


def test_if_match_is_compared_with_the_match(client, path, unique):
    client.create(patient(unique))
    headers = {"If-Match": 'W/"2"'}
    assert client.put(path, patient(unique, gender="male"), headers=headers).status_code == 412
    assert client.delete(path, headers=headers).status_code == 412


def test_delete_removes_the_one_that_matches(client, path, unique):
    stored = client.create(patient(unique))
    assert client.delete(path).status_code == 204
    assert client.get(f"Patient/{stored['id']}").status_code == 410
    assert client.delete(path).status_code == 204


@pytest.mark.parametrize("query", ["", "?", "?identifier=", "?nonsense=1", "?_count=1"])
def test_condition_that_means_nothing_never_means_all(client, query):
    assert client.put(f"Patient{query}", patient("x")).status_code in (400, 412)
    assert client.delete(f"Patient{query}").status_code in (400, 412)


@pytest.mark.parametrize("make", ["create", "update"])
def test_50_clients_at_once_make_one_resource(client, path, unique, make):
    def send(_):
        if make == "update":
            return client.put(path, patient(unique)).status_code
        condition = path.partition("?")[2]
        headers = {"If-None-Exist": condition}
        return client.post("Patient", patient(unique), headers=headers).status_code

    with ThreadPoolExecutor(16) as pool:
        told = sorted(pool.map(send, range(50)))
    assert told == [200] * 49 + [201]
    assert len(client.found(path)) == 1


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_bundle_updates_and_deletes_conditionally(client, kind, unique):
    known, doomed = client.create(patient(unique)), client.create(patient(f"{unique}-d"))
    entries = [
        {
            "request": {"method": "PUT", "url": f"Patient?identifier=urn:s|{unique}"},
            "resource": patient(unique, gender="male"),
        },
        {"request": {"method": "DELETE", "url": f"Patient?identifier=urn:s|{unique}-d"}},
        {
            "request": {"method": "PUT", "url": f"Patient?identifier=urn:s|{unique}-n"},
            "resource": patient(f"{unique}-n"),
        },
    ]
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    answers = client.post("", bundle).json()["entry"]
    assert [a["response"]["status"][:3] for a in answers] == ["200", "204", "201"]
    assert client.get(f"Patient/{known['id']}").json()["gender"] == "male"
    assert client.get(f"Patient/{doomed['id']}").status_code == 410


def test_references_follow_a_conditional_update(client, unique):
    known = client.create(patient(unique))
    urn = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    entries = [
        {
            "request": {"method": "POST", "url": "Observation"},
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": urn},
            },
        },
        {
            "fullUrl": urn,
            "request": {"method": "PUT", "url": f"Patient?identifier=urn:s|{unique}"},
            "resource": patient(unique, gender="male"),
        },
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    headers = {"Prefer": "return=representation"}
    answers = client.post("", bundle, headers=headers).json()["entry"]
    assert answers[0]["resource"]["subject"]["reference"] == f"Patient/{known['id']}"


def test_conditional_update_of_what_another_entry_updates_fails(client, unique):
    known = client.create(patient(unique))
    entries = [
        {
            "request": {"method": "PUT", "url": f"Patient/{known['id']}"},
            "resource": {**known, "gender": "male"},
        },
        {
            "request": {"method": "PUT", "url": f"Patient?identifier=urn:s|{unique}"},
            "resource": patient(unique, gender="other"),
        },
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    response = client.post("", bundle)
    assert response.status_code == 400
    assert client.issues(response)[0]["expression"] == ["Bundle.entry[1]"]
    assert client.get(f"Patient/{known['id']}").headers["ETag"] == 'W/"1"'


def test_a_condition_behind_the_url_of_a_create_is_not_lost(client, unique):
    path = f"Patient?identifier=urn:s|{unique}"
    first = client.post(path, patient(unique))
    assert first.status_code == 201
    again = client.post(path, patient(unique))
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    both = client.post(path, patient(unique), headers={"If-None-Exist": f"identifier={unique}"})
    assert both.status_code == 400
    assert client.post("Patient?unknown=1", patient(unique)).status_code == 400
    assert client.post("Patient?_format=json&_pretty=true", patient(unique)).status_code == 201
