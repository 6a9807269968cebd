"""Whom a reading belongs to; what cannot be placed is kept, mended and decided again."""

import pytest

from tests.conformance.ward import MRN, NUMBERS, SERIAL, pulse


def reason(ward, body, **more):
    result = ward.verdict(body, **more)
    assert result["verdict"] == "quarantined"
    assert ward.get(result["quarantine"])["status"] == "requested"
    return result["reason"]


def test_an_unknown_device_is_quarantined(ward):
    assert reason(ward, pulse("no-such-device")) == "device-unknown"


def test_a_reading_of_no_device_is_quarantined(ward):
    body = pulse("x")
    del body["device"]
    assert reason(ward, body) == "device-missing"


def test_a_device_that_nobody_had_then_is_quarantined(ward):
    _, _, serial = ward.kit()
    assert reason(ward, pulse(serial, "2019-12-31T12:00:00Z")) == "device-not-assigned"


def test_a_value_that_two_devices_have_is_quarantined(ward):
    patient, _ = ward.patient()
    device, serial = ward.device()
    ward.assign(device, patient)
    ward.create(
        {"resourceType": "Device", "identifier": [{"system": "https://b.example", "value": serial}]}
    )
    assert reason(ward, pulse(serial)) == "device-ambiguous"


def test_a_system_tells_two_devices_of_one_value_apart(ward):
    patient, _ = ward.patient()
    device, serial = ward.device()
    ward.assign(device, patient)
    ward.create(
        {"resourceType": "Device", "identifier": [{"system": "https://b.example", "value": serial}]}
    )
    assert ward.verdict(pulse(serial), device=f"{SERIAL}|{serial}")["verdict"] == "accepted"


@pytest.mark.parametrize("named", ["identifier", "id", "token"])
def test_a_patient_who_is_named_rightly_changes_nothing(ward, named):
    patient, mrn, serial = ward.kit()
    if named == "token":
        result = ward.verdict(pulse(serial), patient=f"{MRN}|{mrn}")
    else:
        result = ward.verdict(
            pulse(serial, patient=mrn if named == "identifier" else patient["id"])
        )
    assert result["verdict"] == "accepted"


def test_a_patient_who_is_not_the_holder_is_a_mismatch(ward):
    _, _, serial = ward.kit()
    _, other = ward.patient()
    assert reason(ward, pulse(serial, patient=other)) == "patient-mismatch"


def test_a_reading_belongs_to_who_had_the_device_when_it_measured(ward):
    (one, _), (other, _) = ward.patient(), ward.patient()
    device, serial = ward.device()
    handover = "2024-03-10T12:00:00+03:00"
    ward.assign(device, one, timingPeriod={"start": "2024-01-01", "end": handover})
    ward.assign(device, other, timingPeriod={"start": handover})

    def subject(time):
        return ward.get(ward.verdict(pulse(serial, time))["resources"][0])["subject"]["reference"]

    assert subject("2024-03-10T09:00:00Z") == f"Patient/{other['id']}"
    assert subject("2024-03-10T08:59:59Z") == f"Patient/{one['id']}"


def test_an_assignment_that_is_corrected_is_seen_by_the_next_reading(ward):
    patient, _ = ward.patient()
    device, serial = ward.device()
    assert reason(ward, pulse(serial, "2024-03-10T08:00:01Z")) == "device-not-assigned"
    statement = ward.assign(device, patient)
    assert ward.verdict(pulse(serial, "2024-03-10T08:00:02Z"))["verdict"] == "accepted"
    ward.put({**statement, "status": "entered-in-error"})
    assert reason(ward, pulse(serial, "2024-03-10T08:00:03Z")) == "device-not-assigned"
    ward.put(statement)
    other, _ = ward.patient()
    ward.put({**statement, "subject": {"reference": f"Patient/{other['id']}"}})
    result = ward.verdict(pulse(serial, "2024-03-10T08:00:04Z"))
    assert ward.get(result["resources"][0])["subject"]["reference"] == f"Patient/{other['id']}"


def test_a_reading_that_answers_a_care_plan_is_based_on_it(ward):
    patient, _, serial = ward.kit()
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    plan = ward.create(
        {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "order",
            "subject": {"reference": f"Patient/{patient['id']}"},
            "period": {"start": "2024-03-10", "end": "2024-03-20"},
            "activity": [{"detail": {"status": "scheduled", "code": code}}],
        }
    )
    during = ward.verdict(pulse(serial, "2024-03-20T12:00:00+03:00"))
    after = ward.verdict(pulse(serial, "2024-03-21T12:00:00+03:00"))
    observation = ward.get(during["resources"][0])
    assert observation["basedOn"] == [{"reference": f"CarePlan/{plan['id']}"}]
    assert "basedOn" not in ward.get(after["resources"][0])
    ward.put({**plan, "status": "completed"})
    later = ward.verdict(pulse(serial, "2024-03-19T12:00:00+03:00"))
    assert "basedOn" not in ward.get(later["resources"][0])


def test_readings_of_an_auxiliary_device_carry_its_tag(ward):
    tag = {"system": "https://pmp.example/fhir/CodeSystem/device-standing", "code": "auxiliary"}
    patient, _ = ward.patient()
    device, serial = ward.device(meta={"tag": [tag]})
    ward.assign(device, patient)
    observation = ward.get(ward.verdict(pulse(serial))["resources"][0])
    assert tag["code"] in [t["code"] for t in observation["meta"]["tag"]]


def test_a_broken_line_is_quarantined_alone(ward):
    _, _, serial = ward.kit()
    lines = [pulse(serial), b'{"type": "Heart', b"\xff\xfe{}", b"", pulse(serial, rate=True)]
    answer = ward.send_lines(lines)
    verdicts = [(r["index"], r["verdict"], r.get("reason")) for r in answer["results"]]
    assert verdicts == [
        (0, "accepted", None),
        (1, "quarantined", "malformed-payload"),
        (2, "quarantined", "malformed-payload"),
        (4, "quarantined", "invalid-payload"),
    ]


def test_an_undecidable_payload_sent_again_is_kept_once(ward):
    body = pulse(f"unknown-{next(NUMBERS)}")
    first = ward.send_lines([body, body])
    again = ward.send_lines([body])
    tasks = {r["quarantine"] for r in first["results"] + again["results"]}
    assert len(tasks) == 1
    other_gateway = ward.verdict(body, headers={"X-Gateway-Id": "hub-2"})
    assert other_gateway["quarantine"] not in tasks


def test_a_kept_payload_is_the_payload_as_it_came(ward):
    raw = b'{"type":"Heart Rate", "time" : "2024-03-10T08:00:00Z","device":"nobody\xd1\x8f"}'
    task = ward.get(ward.verdict(raw)["quarantine"])
    values = {part["type"]["coding"][0]["code"]: part for part in task["input"]}
    assert values["payload"]["valueString"].encode() == raw
    assert values["mapping"]["valueString"] == "iot-hub"


def test_readings_of_a_long_payload_share_one_copy_of_it(ward):
    records = [
        {"DataID": f"{i:032x}", "DataSource": "FromDevice", "HP": 120, "LP": 80, "HR": 70,
         "IsArr": 0, "LastChangeTime": 1442520270, "MDate": 1442491463 + 60 * i, "Note": "",
         "TimeZone": "-0800"}
        for i in range(60)
    ]  # fmt: skip
    payload = {"BPDataList": records, "BPUnit": 0}
    device = f"{SERIAL}|late-{next(NUMBERS)}"
    results = ward.verdicts(payload, mapping="ihealth", device=device)
    assert {r["verdict"] for r in results} == {"quarantined"}
    assert len({r["quarantine"] for r in results}) == len(results) >= 60
    kept = set()
    for result in results[:3]:
        for part in ward.get(result["quarantine"])["input"]:
            if part["type"]["coding"][0]["code"] == "payload":
                kept.add(part["valueReference"]["reference"])
    (binary,) = kept
    assert binary.startswith("Binary/")
    tried = ward.http.post(
        f"{ward.root}/readings/quarantine/reprocess",
        params={"quarantine": results[0]["quarantine"]},
    ).json()
    assert tried["results"][0]["reason"] == "device-unknown"
    # The copy spoilt by a client: its Tasks say so, and the payload sent again restores it.
    data = "eA=="
    ward.put({**ward.get(binary), "data": data})
    assert reprocess(ward, results[0]["quarantine"])[0]["reason"] == "task-altered"
    other = {**payload, "BPUnit": 0}
    ward.verdicts(other, mapping="ihealth", device=f"{device}-2")
    assert ward.get(binary)["data"] != data
    assert reprocess(ward, results[0]["quarantine"])[0]["reason"] == "device-unknown"


def reprocess(ward, *tasks):
    answer = ward.http.post(
        f"{ward.root}/readings/quarantine/reprocess",
        params=[("quarantine", task) for task in tasks],
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_a_quarantined_reading_is_stored_once_its_cause_is_mended(ward):
    serial = f"later-{next(NUMBERS)}"
    held = ward.verdict(pulse(serial), headers={"X-Gateway-Id": "hub-1"})["quarantine"]
    assert reprocess(ward, held)[0]["reason"] == "device-unknown"
    assert ward.get(held)["meta"]["versionId"] == "1"
    device, _ = ward.device(serial)
    assert reprocess(ward, held)[0]["reason"] == "device-not-assigned"
    assert ward.get(held)["businessStatus"]["coding"][0]["code"] == "device-not-assigned"
    patient, _ = ward.patient()
    ward.assign(device, patient)
    (result,) = reprocess(ward, held)
    assert result["verdict"] == "accepted"
    task = ward.get(held)
    assert task["status"] == "completed"
    assert task["output"][0]["valueReference"]["reference"] == result["resources"][0]
    issued = ward.get(result["resources"][0])["issued"]
    assert issued[:19] == task["authoredOn"][:19]
    assert ward.verdict(pulse(serial))["resources"] == result["resources"]


def test_a_task_that_a_person_closed_is_left_alone(ward):
    held = ward.verdict(pulse(f"gone-{next(NUMBERS)}"))["quarantine"]
    ward.put({**ward.get(held), "status": "cancelled"})
    (result,) = reprocess(ward, held)
    assert ward.get(held)["status"] == "cancelled"
    assert result["verdict"] == "unchanged"


def test_reprocessing_what_is_no_quarantined_reading_is_not_found(ward):
    answer = ward.http.post(
        f"{ward.root}/readings/quarantine/reprocess", params={"quarantine": "Task/none"}
    )
    assert answer.status_code == 404


def test_the_work_list_shows_what_waits_by_reason_in_pages(ward):
    tasks = {ward.verdict(pulse(f"listed-{next(NUMBERS)}"))["quarantine"] for _ in range(5)}
    listed, page = [], {}
    while True:
        answer = ward.http.get(
            f"{ward.root}/readings/quarantine",
            params={"reason": "device-unknown", "_count": "2", **page},
        ).json()
        listed += answer["quarantined"]
        if "next" not in answer:
            break
        page = {"page": answer["next"]}
    names = [line["quarantine"] for line in listed]
    assert tasks <= set(names)
    assert len(names) == len(set(names))
    assert {line["reason"] for line in listed} == {"device-unknown"}
    assert all(line["mapping"] for line in listed)
