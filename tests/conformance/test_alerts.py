"""Alerts over HTTP: raised with the reading, told of, acknowledged, escalated."""

from datetime import timedelta
from time import monotonic, sleep

import pytest

from fhir_server.app import now
from tests.conformance.conftest import Client, Server

NOW = now().replace(microsecond=0)
UCUM = "http://unitsofmeasure.org"


def mmhg(value, **more):
    return {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]", **more}


def loinc(code):
    return {"coding": [{"system": "http://loinc.org", "code": code}]}


@pytest.fixture
def patient(client):
    made = client.create({"resourceType": "Patient"})
    subject = {"reference": f"Patient/{made['id']}"}
    client.create(
        {
            "resourceType": "Goal", "lifecycleStatus": "active", "subject": subject,
            "description": {"text": "Systolic pressure"},
            "expressedBy": {"identifier": {"value": "DR-1"}, "display": "The physician"},
            "target": [{"measure": loinc("8480-6"),
                        "detailRange": {"low": mmhg(90), "high": mmhg(140)}}],
        }
    )  # fmt: skip
    return subject


def pressure(subject, systolic, minutes_ago=0, **more):
    value = {"valueQuantity": systolic if isinstance(systolic, dict) else mmhg(systolic)}
    when = NOW - timedelta(minutes=minutes_ago)
    return {
        "resourceType": "Observation", "status": "final", "code": loinc("85354-9"),
        "subject": subject, "effectiveDateTime": when.isoformat(),
        "component": [{"code": loinc("8480-6"), **value}], **more,
    }  # fmt: skip


def found(client, resource_type, subject, **params):
    element = "patient" if resource_type == "DetectedIssue" else "subject"
    query = "&".join(f"{k}={v}" for k, v in {element: subject["reference"], **params}.items())
    bundle = client.get(f"{resource_type}?{query}").json()
    return [entry["resource"] for entry in bundle.get("entry", ())]


def statuses(client, subject):
    return sorted(issue["status"] for issue in found(client, "DetectedIssue", subject))


def test_a_reading_beyond_a_limit_has_its_alert_and_both_are_told(client, patient):
    reading = client.create(pressure(patient, 150))
    (issue,) = found(client, "DetectedIssue", patient)
    assert issue["status"] == "preliminary"
    assert issue["code"]["coding"][0]["code"] == "above-limit"
    assert issue["evidence"][0]["detail"] == [{"reference": f"Observation/{reading['id']}"}]
    told = found(client, "Communication", patient)
    assert sorted(n["category"][0]["coding"][0]["code"] for n in told) == ["patient", "physician"]
    assert all(n["about"] == [{"reference": f"DetectedIssue/{issue['id']}"}] for n in told)


def test_what_was_measured_is_not_in_a_notice(client, patient):
    client.create(pressure(patient, 153))
    assert "153" not in client.get(f"Communication?subject={patient['reference']}").text


def test_a_value_that_sways_around_the_limit_floods_nobody(client, patient):
    for minutes, value in enumerate((150, 139, 141, 138, 145)):
        client.create(pressure(patient, value, minutes_ago=50 - minutes))
    assert statuses(client, patient) == ["preliminary"]
    assert len(found(client, "Communication", patient)) == 2


def test_back_within_the_limit_by_the_margin_ends_the_alert(client, patient):
    client.create(pressure(patient, 150, minutes_ago=20))
    client.create(pressure(patient, 133, minutes_ago=10))
    (issue,) = found(client, "DetectedIssue", patient)
    assert issue["status"] == "final"
    assert "end" in issue["identifiedPeriod"]


def test_a_late_reading_wakes_nobody_for_what_is_over(client, patient):
    client.create(pressure(patient, 120, minutes_ago=10))
    client.create(pressure(patient, 150, minutes_ago=20))
    (issue,) = found(client, "DetectedIssue", patient)
    assert issue["status"] == "final"
    assert found(client, "Communication", patient) == []


def test_a_late_reading_does_not_undo_the_alert_of_a_newer_one(client, patient):
    client.create(pressure(patient, 150, minutes_ago=10))
    client.create(pressure(patient, 120, minutes_ago=20))
    assert statuses(client, patient) == ["preliminary"]


def test_the_alert_of_a_reading_entered_in_error_is_withdrawn(client, patient):
    reading = client.create(pressure(patient, 150))
    client.put(f"Observation/{reading['id']}", {**reading, "status": "entered-in-error"})
    assert statuses(client, patient) == ["entered-in-error"]
    assert {n["status"] for n in found(client, "Communication", patient)} == {"completed"}


def test_the_alert_of_a_deleted_reading_is_withdrawn(client, patient):
    reading = client.create(pressure(patient, 150))
    client.delete(f"Observation/{reading['id']}")
    assert statuses(client, patient) == ["entered-in-error"]


def test_auxiliary_data_raise_no_alert(client, patient):
    tag = {"system": "https://pmp.example/fhir/CodeSystem/device-standing", "code": "auxiliary"}
    client.create(pressure(patient, 190, meta={"tag": [tag]}))
    assert statuses(client, patient) == []


def test_a_value_that_is_absent_is_not_judged(client, patient):
    reading = pressure(patient, 150)
    unknown = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                           "code": "error"}]}  # fmt: skip
    reading["component"][0] = {"code": loinc("8480-6"), "dataAbsentReason": unknown}
    client.create(reading)
    assert statuses(client, patient) == []


@pytest.mark.parametrize(("value", "comparator", "count"), [(200, ">", 1), (200, "<", 0)])
def test_hi_is_judged_by_the_side_it_is_on(client, patient, value, comparator, count):
    client.create(pressure(patient, mmhg(value, comparator=comparator)))
    assert len(statuses(client, patient)) == count


def test_limits_in_another_unit_mean_the_same(client, patient):
    kpa = {"value": 21.0, "unit": "kPa", "system": UCUM, "code": "kPa"}
    client.create(pressure(patient, kpa))
    assert statuses(client, patient) == ["preliminary"]


def test_a_transaction_that_fails_raises_no_alert(client, patient):
    entry = [
        {"resource": pressure(patient, 150), "request": {"method": "POST", "url": "Observation"}},
        {"request": {"method": "DELETE", "url": "Observation?nonsense=1"}},
    ]
    answer = client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entry})
    assert answer.status_code >= 400
    assert statuses(client, patient) == []


def test_somebody_who_has_seen_it_is_on_record_and_nothing_waits_any_more(client, patient):
    client.create(pressure(patient, 150))
    (issue,) = found(client, "DetectedIssue", patient)
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "author", "valueReference": {"display": "Dr Orlova"}},
            {"name": "comment", "valueString": "Called; measures again"},
        ],
    }
    answer = client.post(f"DetectedIssue/{issue['id']}/$acknowledge", parameters)
    assert answer.status_code == 200
    (mitigation,) = answer.json()["mitigation"]
    assert mitigation["author"] == {"display": "Dr Orlova"}
    assert mitigation["action"]["text"] == "Called; measures again"
    assert {n["status"] for n in found(client, "Communication", patient)} == {"completed"}
    client.create(pressure(patient, 120))
    (issue,) = found(client, "DetectedIssue", patient)
    assert (issue["status"], len(issue["mitigation"])) == ("final", 1)


def test_only_an_alert_can_be_acknowledged(client, patient):
    other = client.create({"resourceType": "DetectedIssue", "status": "final"})
    answer = client.post(f"DetectedIssue/{other['id']}/$acknowledge")
    assert answer.status_code == 400
    assert client.post("DetectedIssue/nobody/$acknowledge").status_code == 404


def test_when_nobody_reacts_the_care_team_is_told_once():
    with Server(alert_escalation_minutes=0.01) as server:
        client = Client(server)
        subject = {"reference": f"Patient/{client.create({'resourceType': 'Patient'})['id']}"}
        kind = {"system": "https://pmp.example/fhir/CodeSystem/care-plan", "code": "hypertension"}
        client.create(
            {
                "resourceType": "CarePlan", "status": "active", "intent": "order",
                "subject": subject, "category": [{"coding": [kind]}],
                "author": {"display": "Physician"}, "careTeam": [{"display": "The team"}],
            }
        )  # fmt: skip
        client.create(pressure(subject, 185))
        until = monotonic() + 20
        told = []
        while not told and monotonic() < until:
            sleep(0.2)
            category = "https://pmp.example/fhir/CodeSystem/alert-notice|escalation"
            told = found(client, "Communication", subject, category=category)
        sleep(1.5)
        assert [n["recipient"] for n in told] == [[{"display": "The team"}]]
        assert told[0]["priority"] == "stat"
        assert len(found(client, "Communication", subject)) == 3
