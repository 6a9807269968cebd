"""CarePlan/$adherence: expected, done, in time and missed, per activity and over all."""

import pytest

CODE = {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}
ABSENT = {"code": {"text": "systolic"}, "dataAbsentReason": {"coding": [{"code": "error"}]}}
AUXILIARY = {
    "system": "https://pmp.example/fhir/CodeSystem/device-standing",
    "code": "auxiliary",
}


@pytest.fixture
def patient(client):
    return f"Patient/{client.create({'resourceType': 'Patient'})['id']}"


def plan(client, patient, *whens, **more):
    activities = [
        {"detail": {"status": "scheduled", "code": CODE, "scheduledTiming": {"repeat": {
            "frequency": 2, "period": 1, "periodUnit": "d", "when": [when]}}}}
        for when in whens
    ]  # fmt: skip
    return client.create(
        {"resourceType": "CarePlan", "status": "active", "intent": "plan",
         "subject": {"reference": patient}, "period": {"start": "2026-03-02"},
         "activity": activities, **more}
    )["id"]  # fmt: skip


def measure(client, patient, *moments, **more):
    for moment in moments:
        client.create(
            {"resourceType": "Observation", "status": "final", "code": CODE,
             "subject": {"reference": patient}, "effectiveDateTime": f"2026-03-{moment}:00+03:00",
             "component": [{"code": {"text": "systolic"}, "valueQuantity": {"value": 120}}], **more}
        )  # fmt: skip


def adherence(client, name, period="start=2026-03-02&end=2026-03-03"):
    response = client.get(f"CarePlan/{name}/$adherence?{period}")
    assert response.status_code == 200, response.text
    found = []
    for each in response.json()["parameter"]:
        parts = {p["name"]: p for p in each.get("part", ())}
        if parts:
            names = ("expected", "done", "onTime", "missed")
            found.append([parts[name]["valueUnsignedInt"] for name in names])
    return found


def test_each_activity_and_the_whole_are_told(client, patient):
    name = plan(client, patient, "MORN", "EVE")
    measure(client, patient, "02T08:00", "02T08:02", "02T19:00", "03T13:00")
    assert adherence(client, name) == [[8, 4, 3, 4], [4, 3, 2, 1], [4, 1, 1, 3]]


def test_a_reading_is_counted_once_and_auxiliary_or_absent_ones_not_at_all(client, patient):
    name = plan(client, patient, "MORN")
    measure(client, patient, "02T08:00", "02T08:00")
    measure(client, patient, "02T08:05", meta={"tag": [AUXILIARY]})
    measure(client, patient, "02T08:06", component=[ABSENT])
    measure(client, patient, "02T08:07", status="entered-in-error")
    assert adherence(client, name)[0] == [4, 1, 1, 3]


def test_the_clocks_are_those_of_the_patient(client):
    zone = {
        "url": "http://hl7.org/fhir/StructureDefinition/timezone",
        "valueCode": "Asia/Vladivostok",
    }
    made = client.create({"resourceType": "Patient", "extension": [zone]})
    name = plan(client, f"Patient/{made['id']}", "MORN")
    # Nine in the morning there is two at night in Moscow.
    measure(client, f"Patient/{made['id']}", "02T02:00", "02T02:10")
    assert adherence(client, name, "start=2026-03-02&end=2026-03-02")[0] == [2, 2, 2, 0]


def test_what_is_not_over_is_not_expected(client, patient):
    name = plan(client, patient, "MORN", period={"start": "2999-01-01"})
    assert adherence(client, name, "")[0] == [0, 0, 0, 0]


@pytest.mark.parametrize("period", ["start=x", "start=2020-01-01&end=2024-01-01", "since=2020"])
def test_a_period_that_means_nothing_is_refused(client, patient, period):
    name = plan(client, patient, "MORN")
    assert client.get(f"CarePlan/{name}/$adherence?{period}").status_code == 400


def test_a_plan_that_is_not_there(client):
    assert client.get("CarePlan/nobody/$adherence").status_code == 404
