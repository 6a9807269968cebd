"""Conditional delete, and conditional update that must create.

https://hl7.org/fhir/R4/http.html#3.1.0.7.1
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.conftest import Client, Server


@pytest.fixture(scope="module")
def client():
    """Of a server that deletes all that match."""
    with Server(conditional_delete="multiple") as server:
        yield Client(server)


@pytest.mark.parametrize("query", ["identifier=urn:delete|{}", "family={}"])
def test_without_leave_several_matches_are_refused(server, unique, query):
    careful = Client(server)
    path = f"Patient?{query.format(unique)}"
    made = [careful.create(patient(unique, name=[{"family": unique}]))["id"] for _ in range(2)]
    refused = careful.delete(path)
    assert refused.status_code == 412
    assert careful.issues(refused)[0]["code"] == "multiple-matches"
    deletes = {"request": {"method": "DELETE", "url": path}}
    for kind, status in (("transaction", 412), ("batch", 200)):
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [deletes]}
        answer = careful.post("", bundle)
        assert answer.status_code == status
    assert answer.json()["entry"][0]["response"]["status"][:3] == "412"
    assert [careful.get(f"Patient/{each}").status_code for each in made] == [200, 200]
    careful.delete(f"Patient/{made[0]}")
    assert careful.delete(path).status_code == 204
    assert careful.get(f"Patient/{made[1]}").status_code == 410
    assert careful.delete(path).status_code == 204


def patient(unique, **more):
    identifier = [{"system": "urn:delete", "value": unique}]
    return {"resourceType": "Patient", "identifier": identifier, **more}


def test_all_that_match_are_deleted(client, unique):
    made = [client.create(patient(unique))["id"] for _ in range(3)]
    kept = client.create(patient("other-" + unique))["id"]
    response = client.delete(f"Patient?identifier=urn:delete|{unique}")
    assert response.status_code == 204
    assert [client.get(f"Patient/{each}").status_code for each in made] == [410] * 3
    assert client.get(f"Patient/{kept}").status_code == 200
    assert client.delete(f"Patient?identifier=urn:delete|{unique}").status_code == 204


def test_how_many_were_deleted_is_told_to_who_asks(client, unique):
    for number in range(2):
        client.create(patient(unique, name=[{"family": f"F{number}"}]))
    response = client.delete(
        f"Patient?identifier=urn:delete|{unique}&family=F",
        headers={"Prefer": "return=OperationOutcome"},
    )
    assert response.status_code == 200
    assert client.issues(response)[0]["diagnostics"] == "2 resources were deleted"


def test_one_commit_deletes_them(client, unique):
    made = [client.create(patient(unique))["id"] for _ in range(3)]
    client.delete(f"Patient?identifier=urn:delete|{unique}")
    times = set()
    for each in made:
        history = client.get(f"Patient/{each}/_history").json()
        times.add(history["entry"][0]["response"]["lastModified"])
    assert len(times) == 1


def test_if_match_is_about_one(client, unique):
    path = f"Patient?identifier=urn:delete|{unique}"
    client.create(patient(unique))
    assert client.delete(path, headers={"If-Match": 'W/"9"'}).status_code == 412
    client.create(patient(unique))
    several = client.delete(path, headers={"If-Match": 'W/"1"'})
    assert several.status_code == 412
    assert client.issues(several)[0]["code"] == "multiple-matches"


def test_too_many_are_refused_and_none_is_deleted(unique):
    with Server(conditional_delete="multiple") as server:
        client = Client(server)
        entry = [
            {"resource": patient(unique), "request": {"method": "POST", "url": "Patient"}}
            for _ in range(1_001)
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
        assert client.post("", bundle).status_code == 200
        response = client.delete(f"Patient?identifier=urn:delete|{unique}")
        assert response.status_code == 422
        assert client.issues(response)[0]["code"] == "too-costly"
        assert client.get("Patient?_summary=count").json()["total"] == 1_001


def test_a_transaction_deletes_all_that_match(client, unique):
    made = [client.create(patient(unique))["id"] for _ in range(3)]
    deletes = {"request": {"method": "DELETE", "url": f"Patient?identifier=urn:delete|{unique}"}}
    creates = {"resource": patient(unique), "request": {"method": "POST", "url": "Patient"}}
    for kind in ("transaction", "batch"):
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [creates, deletes]}
        response = client.post("", bundle)
        assert response.status_code == 200, response.text
        statuses = [each["response"]["status"][:3] for each in response.json()["entry"]]
        assert statuses == ["201", "204"]
        assert len(client.found(f"Patient?identifier=urn:delete|{unique}")) == 1
    assert [client.get(f"Patient/{each}").status_code for each in made] == [410] * 3


def test_a_transaction_that_touches_one_of_them_twice_fails(client, unique):
    made = client.create(patient(unique))["id"]
    deletes = {"request": {"method": "DELETE", "url": f"Patient?identifier=urn:delete|{unique}"}}
    updates = {
        "resource": patient(unique, id=made),
        "request": {"method": "PUT", "url": f"Patient/{made}"},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [deletes, updates]}
    assert client.post("", bundle).status_code == 400
    assert client.get(f"Patient/{made}").status_code == 200


def test_the_statement_says_how_many_may_be_deleted(client, server):
    for asked, said in ((client, "multiple"), (Client(server), "single")):
        (rest,) = asked.get("metadata").json()["rest"]
        assert {each["conditionalDelete"] for each in rest["resource"]} == {said}


def test_a_conditional_update_that_must_create_does_so_once(client, unique):
    path = f"Patient?identifier=urn:delete|{unique}"
    headers = {"If-None-Match": "*"}
    assert client.put(path, patient(unique), headers=headers).status_code == 201
    assert client.put(path, patient(unique, active=True), headers=headers).status_code == 412
    for kind, status in (("batch", 200), ("transaction", 412)):
        entry = {
            "resource": patient(unique, active=True),
            "request": {"method": "PUT", "url": path, "ifNoneMatch": "*"},
        }
        response = client.post("", {"resourceType": "Bundle", "type": kind, "entry": [entry]})
        assert response.status_code == status
    (found,) = client.found(path)
    assert client.get(found).json()["meta"]["versionId"] == "1"


def test_fifty_clients_with_the_same_condition_make_one(server, unique):
    header = {"If-None-Exist": f"identifier=urn:delete|{unique}"}

    def create(_):
        return Client(server).post("Patient", patient(unique), headers=header)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(create, range(50)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 49 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(Client(server).found(f"Patient?identifier=urn:delete|{unique}")) == 1


def test_fifty_conditional_updates_make_one(server, unique):
    path = f"Patient?identifier=urn:delete|{unique}"

    def update(number):
        return Client(server).put(path, patient(unique, name=[{"text": str(number)}]))

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(update, range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    (found,) = Client(server).found(path)
    assert Client(server).get(found).json()["meta"]["versionId"] == "50"
