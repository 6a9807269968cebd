"""POST /enrolments: a prescription becomes resources once, and never at another's cost."""

import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
import requests

KITS = sorted(
    (Path(__file__).parents[2] / "mappings" / "device-kit" / "examples").glob("*.payload.json")
)
NUMBERS = count(1)


@pytest.fixture
def root(server):
    return server.url


@pytest.fixture
def url(root):
    return f"{root}/enrolments/device-kit"


def renamed(value, suffix):
    """A kit of other people and other devices: every identifying text gets a suffix."""
    if isinstance(value, dict):
        return {
            k: f"{v}{suffix}" if k in ("value", "number") else renamed(v, suffix)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [renamed(v, suffix) for v in value]
    return value


@pytest.fixture(params=KITS, ids=[path.name.partition(".")[0] for path in KITS])
def kit(request):
    return renamed(json.loads(request.param.read_text()), f"-{next(NUMBERS)}")


def resources(answer):
    return [entry["resource"] for entry in answer.json()["entry"]]


def test_there_are_kits_to_enrol():
    assert KITS


def test_an_enrolment_makes_patient_devices_assignments_goals_and_plan(root, url, kit):
    answer = requests.post(url, json=kit, timeout=30)
    assert answer.status_code == 201, answer.text
    made = resources(answer)
    kinds = [resource["resourceType"] for resource in made]
    assert kinds.count("Patient") == kinds.count("CarePlan") == 1
    assert kinds.count("Device") == kinds.count("DeviceUseStatement") > 0
    plan = next(r for r in made if r["resourceType"] == "CarePlan")
    assert plan["status"] == "active"
    assert len(plan["goal"]) == kinds.count("Goal") > 0
    assert plan["activity"]
    for resource in made:
        reference = f"{resource['resourceType']}/{resource['id']}"
        assert requests.get(f"{root}/fhir/{reference}", timeout=30).json() == resource


def test_the_same_enrolment_again_changes_nothing(root, url, kit):
    first = requests.post(url, json=kit, timeout=30)
    before = requests.get(f"{root}/fhir/_history?_count=1", timeout=30).json()["entry"]
    again = requests.post(url, json=kit, timeout=30)
    assert again.status_code == 200
    assert requests.get(f"{root}/fhir/_history?_count=1", timeout=30).json()["entry"] == before
    known = {(r["resourceType"], r["id"], r["meta"]["versionId"]) for r in resources(first)}
    assert {(r["resourceType"], r["id"], r["meta"]["versionId"]) for r in resources(again)} == known


def test_what_a_physician_changed_survives_the_order_sent_again(root, url, kit):
    goal = next(
        r
        for r in resources(requests.post(url, json=kit, timeout=30))
        if r["resourceType"] == "Goal"
    )
    goal["description"] = {"text": "agreed otherwise"}
    changed = requests.put(f"{root}/fhir/Goal/{goal['id']}", json=goal, timeout=30)
    assert changed.status_code == 200
    assert requests.post(url, json=kit, timeout=30).status_code == 200
    kept = requests.get(f"{root}/fhir/Goal/{goal['id']}", timeout=30).json()
    assert kept["description"] == {"text": "agreed otherwise"}


def test_a_body_that_is_no_json_is_refused(url):
    headers = {"Content-Type": "application/json"}
    assert requests.post(url, data=b"{", headers=headers, timeout=30).status_code == 400


def test_a_body_that_is_no_prescription_is_refused(url):
    answer = requests.post(url, json={"nothing": "of it"}, timeout=30)
    assert answer.status_code == 422
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_mapping_of_readings_enrols_nobody(root):
    assert requests.post(f"{root}/enrolments/ihealth", json={}, timeout=30).status_code == 404
    assert requests.post(f"{root}/enrolments/none", json={}, timeout=30).status_code == 404


def order(kit, **more):
    """Another order of the same kit."""
    return {**copy.deepcopy(kit), "number": f"{kit['number']}-{next(NUMBERS)}", **more}


def other_patient():
    identifier = {"system": "https://clinic.example/mrn", "value": f"other-{next(NUMBERS)}"}
    return {"identifiers": [identifier], "name": {"family": "Other", "given": ["One"]}}


@pytest.fixture
def enrolled(url, kit):
    answer = requests.post(url, json=kit, timeout=30)
    assert answer.status_code == 201, answer.text
    return kit


def count_of(root, kind):
    query = f"{root}/fhir/{kind}?_summary=count"
    return requests.get(query, timeout=30).json()["total"]


def test_a_device_that_another_patient_has_then_is_refused_with_all_of_the_order(
    root, url, enrolled
):
    before = [count_of(root, kind) for kind in ("Patient", "CarePlan", "Goal")]
    answer = requests.post(url, json=order(enrolled, patient=other_patient()), timeout=30)
    assert answer.status_code == 409, answer.text
    (issue,) = answer.json()["issue"]
    assert issue["code"] == "conflict"
    assert issue["expression"] == ["devices[0]"]
    assert "DeviceUseStatement/" in issue["diagnostics"]
    assert [count_of(root, kind) for kind in ("Patient", "CarePlan", "Goal")] == before


def test_a_device_goes_on_to_another_patient_after_its_time(url, enrolled):
    later = order(enrolled, patient=other_patient())
    later["prescription"]["period"] = {"start": "2098-01-01", "end": "2099-01-01"}
    later["prescription"]["plan"] = enrolled["prescription"]["plan"]
    answer = requests.post(url, json=later, timeout=30)
    assert answer.status_code == 201, answer.text
    statuses = [
        (e["resource"]["resourceType"], e["response"]["status"][:3]) for e in answer.json()["entry"]
    ]
    assert ("Device", "200") in statuses
    assert ("Device", "201") not in statuses
    assert ("Patient", "201") in statuses


def test_the_same_patient_may_be_given_another_order_of_the_device(url, enrolled):
    answer = requests.post(url, json=order(enrolled), timeout=30)
    assert answer.status_code == 201, answer.text
    found = [r for r in answer.json()["entry"] if r["resource"]["resourceType"] == "Patient"]
    assert found[0]["response"]["status"] == "200 OK"


def test_another_content_under_the_same_number_is_refused(url, enrolled):
    changed = copy.deepcopy(enrolled)
    changed["prescription"]["title"] = "something else"
    answer = requests.post(url, json=changed, timeout=30)
    assert answer.status_code == 409
    assert "CarePlan/" in answer.json()["issue"][0]["diagnostics"]


def test_a_device_registered_otherwise_is_refused(url, enrolled):
    changed = order(enrolled)
    device = changed["devices"][0]
    device["standing"] = "medical" if device["standing"] == "auxiliary" else "auxiliary"
    assert requests.post(url, json=changed, timeout=30).status_code == 409


def test_identifiers_of_two_patients_are_refused(url, root, enrolled):
    other = other_patient()
    created = requests.post(
        f"{root}/fhir/Patient",
        json={"resourceType": "Patient", "identifier": other["identifiers"]},
        timeout=30,
    )
    assert created.status_code == 201
    mixed = order(enrolled)
    mixed["patient"]["identifiers"] += other["identifiers"]
    answer = requests.post(url, json=mixed, timeout=30)
    assert answer.status_code == 412
    assert answer.json()["issue"][0]["code"] == "multiple-matches"


def test_the_same_order_from_many_connections_at_once_is_enrolled_once(root, url, kit):
    before = count_of(root, "CarePlan")
    together = threading.Barrier(6)

    def send(_):
        together.wait()
        return requests.post(url, json=kit, timeout=30).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(send, range(6))) == [200] * 5 + [201]
    assert count_of(root, "CarePlan") == before + 1


def test_readings_of_the_kit_find_their_patient(root, url, kit):
    made = resources(requests.post(url, json=kit, timeout=30))
    patient = next(r for r in made if r["resourceType"] == "Patient")
    period = next(r for r in made if r["resourceType"] == "CarePlan")["period"]
    identifier = kit["devices"][0]["identifiers"][0]
    payload = {
        "type": "Heart Rate",
        "time": f"{period['start'][:10]}T12:00:00Z",
        "values": {"beatsPerMinute": 70},
    }
    answer = requests.post(
        f"{root}/readings/iot-hub",
        params={"device": f"{identifier['system']}|{identifier['value']}"},
        json=payload,
        timeout=30,
    ).json()
    reference = answer["results"][0]["resources"][0]
    observation = requests.get(f"{root}/fhir/{reference}", timeout=30).json()
    assert observation["subject"] == {"reference": f"Patient/{patient['id']}"}
