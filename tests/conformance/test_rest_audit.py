"""The audit trail over HTTP: every access is on record before it is answered.

https://profiles.ihe.net/ITI/BALP/
"""

import asyncio
import base64
import json
from pathlib import Path

import pytest
import requests

from fhir_server.definitions import load
from fhir_server.errors import StoreUnavailable
from fhir_server.operations.audit_journal import AuditJournal
from tests.conformance.conftest import Server

PATIENT_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.Patient"


@pytest.fixture(scope="module")
def server():
    with Server(audit="on") as server:
        yield server


@pytest.fixture
def get(server):
    def get(path, status=200, **headers):
        answer = requests.get(f"{server.fhir}/{path}", headers=headers, timeout=10)
        assert answer.status_code == status, answer.text
        return answer.json()

    return get


def put(server, resource):
    path = f"{server.fhir}/{resource['resourceType']}/{resource['id']}"
    answer = requests.put(path, json=resource, timeout=10)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def patient(patient_id):
    return {"resourceType": "Patient", "id": patient_id}


def observation(observation_id, patient_id, system="http://loinc.org"):
    return {
        "resourceType": "Observation",
        "id": observation_id,
        "status": "final",
        "code": {"coding": [{"system": system, "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
    }


def events_of(get, patient_id, more=""):
    bundle = get(f"AuditEvent?patient=Patient/{patient_id}&_sort=-date&_count=100{more}")
    return [entry["resource"] for entry in bundle.get("entry", ())]


def codes(events):
    return [event["subtype"][0]["code"] for event in events]


def entities(event, role):
    return [each for each in event["entity"] if each.get("role", {}).get("code") == role]


def whats(event):
    return [each["what"]["reference"] for each in entities(event, "4")]


def asked(event):
    return [base64.b64decode(each["query"]).decode() for each in event["entity"] if "query" in each]


def test_a_read_is_on_the_patients_list(server, get):
    put(server, patient("read"))
    get("Patient/read")
    event = events_of(get, "read")[0]
    assert event["action"] == "R"
    assert event["outcome"] == "0"
    assert event["meta"]["profile"] == [PATIENT_PROFILE + "Read"]
    assert [e["what"]["reference"] for e in entities(event, "1")] == ["Patient/read"]
    assert whats(event) == ["Patient/read/_history/1"]
    assert event["agent"][0]["network"] == {"address": "127.0.0.1", "type": "2"}


def test_writes_are_in_the_list_with_what_was_written(server, get):
    put(server, patient("written"))
    put(server, observation("written-o", "written"))
    put(server, observation("written-o", "written", "urn:other"))
    requests.delete(f"{server.fhir}/Observation/written-o", timeout=10)
    events = events_of(get, "written")
    assert [(event["action"], whats(event)) for event in events] == [
        ("D", ["Observation/written-o/_history/3"]),
        ("U", ["Observation/written-o/_history/2"]),
        ("U", ["Observation/written-o/_history/1"]),
        ("U", ["Patient/written/_history/1"]),
    ]


def test_data_that_move_to_another_patient_are_on_both_lists(server, get):
    for name in ("from", "to"):
        put(server, patient(name))
    put(server, observation("moved", "from"))
    put(server, observation("moved", "to"))
    assert whats(events_of(get, "from")[0]) == ["Observation/moved/_history/2"]
    assert whats(events_of(get, "to")[0]) == ["Observation/moved/_history/2"]


def test_a_search_is_told_to_each_patient_it_found_and_names_no_other(server, get):
    for name in ("one", "two"):
        put(server, patient(name))
        put(server, observation(f"found-{name}", name, "urn:test:found"))
    get("Observation?code=urn:test:found|8867-4&patient=one,two")
    for own, other in (("one", "two"), ("two", "one")):
        event = events_of(get, own)[0]
        assert codes([event]) == ["search-type"]
        assert other not in json.dumps([event["entity"], asked(event)])


def test_a_search_holds_what_was_asked_for(server, get):
    put(server, patient("asked"))
    get("Observation?patient=asked&code=1234")
    requests.post(
        f"{server.fhir}/Observation/_search", data={"patient": "asked", "code": "5678"}, timeout=10
    )
    posted, got = events_of(get, "asked")[:2]
    assert asked(got) == ["GET /fhir/Observation?patient=asked&code=1234"]
    assert asked(posted) == ["POST /fhir/Observation/_search\n\npatient=asked&code=5678"]
    assert got["meta"]["profile"] == [PATIENT_PROFILE + "Query"]


def test_looking_for_a_patient_in_vain_is_on_record(get):
    get("Observation?subject=Patient/nobody")
    get("Patient/nobody", 404)
    refused, searched = events_of(get, "nobody")[:2]
    assert (refused["outcome"], refused["outcomeDesc"]) == ("4", "HTTP 404")
    assert searched["outcome"] == "0"
    assert "profile" not in refused["meta"]


def test_no_id_hides_an_access(server, get):
    put(server, patient("metadata"))
    get("Patient/metadata")
    assert events_of(get, "metadata")[0]["action"] == "R"


def test_why_the_glass_was_broken_is_on_record(server, get):
    put(server, patient("glass"))
    get("Patient/glass", **{"X-Break-Glass-Reason": "unconscious at the door"})
    event = events_of(get, "glass")[0]
    assert event["outcomeDesc"] == "unconscious at the door"
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"


def test_a_write_that_is_refused_is_on_record(server, get):
    put(server, patient("refused"))
    body = observation("refused-o", "refused")
    answer = requests.put(
        f"{server.fhir}/Observation/refused-o",
        json=body,
        headers={"If-Match": 'W/"7"'},
        timeout=10,
    )
    assert answer.status_code == 412
    unreadable = requests.post(f"{server.fhir}/Observation", data=b"{", timeout=10)
    assert unreadable.status_code >= 400
    latest = get("AuditEvent?_count=5&action=C&outcome=4")["entry"][0]["resource"]
    assert codes([latest]) == ["create"]


def test_every_entry_of_a_transaction_is_on_record(server, get):
    put(server, patient("bundled"))
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "resource": observation("bundled-o", "bundled"),
                "request": {"method": "PUT", "url": "Observation/bundled-o"},
            },
            {"request": {"method": "GET", "url": "Patient/bundled"}},
        ],
    }
    answer = requests.post(server.fhir, json=bundle, timeout=10)
    assert answer.status_code == 200, answer.text
    event = events_of(get, "bundled")[0]
    assert codes([event]) == ["transaction"]
    assert whats(event) == ["Observation/bundled-o/_history/1"]


def test_nobody_writes_audit_events(server, get):
    put(server, patient("forged"))
    event = events_of(get, "forged")[0]
    url = f"{server.fhir}/AuditEvent"
    assert requests.post(url, json=event, timeout=10).status_code == 405
    forged = {**event, "id": "forged"}
    assert requests.put(f"{url}/forged", json=forged, timeout=10).status_code == 405
    assert requests.put(f"{url}/{event['id']}", json=event, timeout=10).status_code == 405
    assert requests.delete(f"{url}/{event['id']}", timeout=10).status_code == 405
    assert requests.delete(f"{url}/audit-999999999", timeout=10).status_code == 405
    assert get(f"AuditEvent/{event['id']}") == event


def test_the_statement_says_that_audit_events_are_read_only(get):
    found = get("metadata")["rest"][0]["resource"]
    by_type = {each["type"]: [i["code"] for i in each["interaction"]] for each in found}
    assert not {"create", "update", "patch", "delete"} & set(by_type["AuditEvent"])
    assert "create" in by_type["Observation"]


def test_pages_of_a_list_hold_each_event_once(server, get):
    put(server, patient("paged"))
    for _ in range(11):
        get("Patient/paged")
    expected = [event["id"] for event in events_of(get, "paged")]
    found, path = [], "AuditEvent?patient=Patient/paged&_count=4&_sort=-date"
    while path:
        bundle = get(path)
        found += [entry["resource"]["id"] for entry in bundle["entry"]]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        path = following[0].removeprefix(f"{server.fhir}/") if following else ""
    # Each page that was read is itself on the list, in front of where the pages began.
    assert found[0] not in expected
    assert found[1:] == expected


def test_a_list_can_be_asked_for_time_order_and_number(server, get):
    put(server, patient("timed"))
    get("Patient/timed")
    events = events_of(get, "timed", "&date=ge2020-01-01&action=R,U")
    assert [event["action"] for event in events] == ["R", "U"]
    assert events_of(get, "timed", "&date=lt2020-01-01") == []
    oldest = get("AuditEvent?patient=Patient/timed&_sort=date&_count=1")["entry"][0]["resource"]
    assert oldest["action"] == "U"
    counted = get("AuditEvent?patient=Patient/timed&action=U&_total=accurate&_count=1")
    assert counted["total"] == 1
    refused = requests.get(f"{server.fhir}/AuditEvent?_sort=agent", timeout=10)
    assert refused.status_code == 400


def test_an_event_is_read_by_its_id_and_never_changes(server, get):
    put(server, patient("byid"))
    event = events_of(get, "byid")[0]
    assert get(f"AuditEvent/{event['id']}") == event
    assert get(f"AuditEvent/{event['id']}/_history/1") == event
    get(f"AuditEvent/{event['id']}/_history/2", 404)
    get("AuditEvent/audit-999999999", 404)


def test_a_compartment_holds_the_patients_list(server, get):
    put(server, patient("within"))
    bundle = get("Patient/within/AuditEvent")
    assert [e["resource"]["action"] for e in bundle["entry"]] == ["U"]


def test_readings_are_on_the_list_of_whose_they_are(server, get):
    answers = []
    for path, name in (
        ("enrolments/device-kit", "device-kit/examples/heart-failure"),
        ("readings/iot-hub", "iot-hub/examples/blood-pressure"),
    ):
        body = (Path("mappings") / f"{name}.payload.json").read_bytes()
        headers = {"Content-Type": "application/json"}
        answer = requests.post(f"{server.url}/{path}", data=body, headers=headers, timeout=10)
        assert answer.ok, answer.text
        answers.append(answer.json())
    (stored,) = answers[1]["results"][0]["resources"]
    subject = get(stored)["subject"]["reference"].removeprefix("Patient/")
    events = events_of(get, subject)
    assert codes(events)[:3] == ["read", "readings", "enrolments"]
    assert events[1]["action"] == "C"
    assert f"{stored}/_history/1" in whats(events[1])


def test_events_keep_the_rules_of_r4(server, get, validator):
    put(server, patient("valid"))
    get("Patient/valid")
    get("Observation?patient=valid")
    for entry in get("AuditEvent?_count=200")["entry"]:
        assert validator.check(entry["resource"]) == (), entry["resource"]


@pytest.fixture(scope="module")
def validator():
    return load().validator


def test_what_cannot_be_recorded_is_not_answered():
    class Away:
        async def commit(self, decide):
            raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        asyncio.run(AuditJournal(Away()).write(None))


def test_without_audit_nothing_is_recorded_and_events_are_stored_as_sent():
    with Server() as server:
        put(server, patient("free"))
        found = requests.get(f"{server.fhir}/AuditEvent?patient=Patient/free", timeout=10).json()
        assert found.get("entry", []) == []


def test_the_trail_is_searched_alone_and_not_with_other_types(server, get):
    put(server, patient("several"))
    assert get("?_type=AuditEvent,Patient&_lastUpdated=ge2020-01-01")["resourceType"] == "Bundle"
    everything = get("Patient/several/$everything")
    types = {entry["resource"]["resourceType"] for entry in everything["entry"]}
    assert "AuditEvent" not in types


def test_events_are_found_by_their_ids(server, get):
    put(server, patient("ids"))
    get("Patient/ids")
    first, second = (event["id"] for event in events_of(get, "ids"))
    found = get(f"AuditEvent?_id={second},{first},audit-99999999")["entry"]
    assert [entry["resource"]["id"] for entry in found] == [first, second]
