"""POST /readings: each reading gets its verdict, none is lost, none is guessed."""

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import requests

SERIAL = "https://maker.example/serial"
MRN = "https://clinic.example/mrn"
NUMBERS = count(1)


class Ward:
    """Patients and devices of one test, made through FHIR as any client would."""

    def __init__(self, root):
        self.root = root
        self.http = requests.Session()

    def create(self, resource):
        answer = self.http.post(f"{self.root}/fhir/{resource['resourceType']}", json=resource)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def put(self, resource):
        answer = self.http.put(
            f"{self.root}/fhir/{resource['resourceType']}/{resource['id']}", json=resource
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, reference):
        answer = self.http.get(f"{self.root}/fhir/{reference}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def search(self, query):
        bundle = self.get(query)
        return [entry["resource"] for entry in bundle.get("entry", ())]

    def patient(self):
        mrn = f"mrn-{next(NUMBERS)}"
        identifier = [{"system": MRN, "value": mrn}]
        return self.create({"resourceType": "Patient", "identifier": identifier}), mrn

    def device(self, serial=None, **more):
        serial = serial or f"dev-{next(NUMBERS)}"
        identifier = [{"system": SERIAL, "value": serial}]
        return self.create({"resourceType": "Device", "identifier": identifier, **more}), serial

    def assign(self, device, patient, **timing):
        return self.create(
            {
                "resourceType": "DeviceUseStatement",
                "status": "active",
                "subject": {"reference": f"Patient/{patient['id']}"},
                "device": {"reference": f"Device/{device['id']}"},
                **(timing or {"timingPeriod": {"start": "2020-01-01"}}),
            }
        )

    def kit(self):
        """A device that a patient has; its serial and theirs."""
        patient, mrn = self.patient()
        device, serial = self.device()
        self.assign(device, patient)
        return patient, mrn, serial

    def send(self, body, mapping="iot-hub", headers=(), **params):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(
            f"{self.root}/readings/{mapping}",
            data=data,
            params=params,
            headers={"Content-Type": "application/json", **dict(headers)},
        )

    def verdicts(self, body, **more):
        answer = self.send(body, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def verdict(self, body, **more):
        (result,) = self.verdicts(body, **more)
        return result

    def send_lines(self, lines, headers=(), **params):
        data = b"\n".join(
            line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
        )
        answer = self.send(
            data, headers={"Content-Type": "application/x-ndjson", **dict(headers)}, **params
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def ward(server):
    return Ward(server.url)


def pulse(serial, time="2024-03-10T08:00:00Z", rate=66, **more):
    return {
        "type": "Heart Rate",
        "time": time,
        "device": serial,
        "values": {"beatsPerMinute": rate},
        **more,
    }


def test_a_reading_of_a_device_that_a_patient_has_is_accepted(ward):
    patient, _, serial = ward.kit()
    answer = ward.send(pulse(serial)).json()
    assert [answer[v] for v in ("accepted", "duplicate", "conflict", "quarantined", "ignored")] == [
        1, 0, 0, 0, 0,
    ]  # fmt: skip
    (result,) = answer["results"]
    assert (result["index"], result["reading"], result["verdict"]) == (0, 0, "accepted")
    observation = ward.get(result["resources"][0])
    assert observation["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert observation["valueQuantity"]["value"] == 66


def test_a_reading_sent_again_is_a_duplicate_that_names_what_is_there(ward):
    _, _, serial = ward.kit()
    first = ward.verdict(pulse(serial))
    again = ward.verdict(pulse(serial))
    assert again["verdict"] == "duplicate"
    assert again["resources"] == first["resources"]


def test_the_same_reading_twice_in_one_body_is_stored_once(ward):
    _, _, serial = ward.kit()
    answer = ward.send_lines([pulse(serial)] * 3)
    assert (answer["accepted"], answer["duplicate"]) == (1, 2)
    assert len({r["resources"][0] for r in answer["results"]}) == 1


def test_the_same_reading_from_many_connections_at_once_is_stored_once(ward):
    patient, _, serial = ward.kit()
    together = threading.Barrier(8)

    def send(_):
        connection = Ward(ward.root)
        together.wait()
        return connection.verdict(pulse(serial))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(send, range(8)))
    assert sorted(r["verdict"] for r in results) == ["accepted"] + ["duplicate"] * 7
    assert len(ward.search(f"Observation?patient={patient['id']}")) == 1


def test_another_value_of_the_same_reading_is_a_conflict_and_overwrites_nothing(ward):
    _, _, serial = ward.kit()
    first = ward.verdict(pulse(serial, rate=66))
    other = ward.verdict(pulse(serial, rate=67))
    assert (other["verdict"], other["reason"]) == ("conflict", "conflict")
    stored = ward.get(first["resources"][0])
    assert (stored["valueQuantity"]["value"], stored["meta"]["versionId"]) == (66, "1")
    task = ward.get(other["quarantine"])
    assert task["focus"] == {"reference": first["resources"][0]}
    assert ward.verdict(pulse(serial, rate=67))["quarantine"] == other["quarantine"]


def test_a_reading_is_known_again_when_the_devices_identifiers_change_their_order(ward):
    patient, _ = ward.patient()
    device, serial = ward.device()
    ward.assign(device, patient)
    first = ward.verdict(pulse(serial))
    device["identifier"].insert(0, {"system": "https://other.example", "value": f"x-{serial}"})
    ward.put(device)
    again = ward.verdict(pulse(serial))
    assert (again["verdict"], again["resources"]) == ("duplicate", first["resources"])


def test_a_goal_is_ignored(ward):
    result = ward.verdict({"type": "Goal", "device": "whatever", "values": {}})
    assert result["verdict"] == "ignored"
    assert "resources" not in result
    assert "quarantine" not in result


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


def test_a_list_of_readings_is_decided_whole(ward):
    _, _, serial = ward.kit()
    lines = [
        pulse(serial, f"2024-03-{d:02d}T08:{m:02d}:00Z") for d in range(1, 29) for m in range(60)
    ]
    answer = ward.send_lines(lines)
    assert answer["accepted"] == len(lines) == len(answer["results"])
    assert [r["index"] for r in answer["results"]] == list(range(len(lines)))
    again = ward.send_lines(lines)
    assert again["duplicate"] == len(lines)
    assert [r["resources"] for r in again["results"]] == [r["resources"] for r in answer["results"]]


def test_gzip_is_welcome_in_both_forms(ward):
    _, _, serial = ward.kit()
    body = gzip.compress(json.dumps(pulse(serial)).encode())
    zipped = {"Content-Encoding": "gzip"}
    assert ward.verdict(body, headers=zipped)["verdict"] == "accepted"
    lines = {"Content-Type": "application/x-ndjson", **zipped}
    assert ward.verdict(body, headers=lines)["verdict"] == "duplicate"


@pytest.mark.parametrize(
    ("body", "headers", "params", "status"),
    [
        (b"{", {}, {}, 400),
        (b"", {}, {}, 400),
        (b'"\xff"', {}, {}, 400),
        (b"[" * 100_000, {}, {}, 400),
        (b"{}", {"Content-Encoding": "gzip"}, {}, 400),
        (b"{}", {"Content-Encoding": "br"}, {}, 415),
        (b"{}", {"Content-Type": "text/csv"}, {}, 415),
        (b"{}", {"X-Gateway-Time": "yesterday"}, {}, 400),
        (b"{}", {"X-Gateway-Time": "2024-03-10T08:00:00"}, {}, 400),
        (b"{}", {}, {"device": "system|"}, 400),
        (b"{}", {}, {"devise": "system|1"}, 400),
        (b"{}", {}, {"device": ["a", "b"]}, 400),
    ],
)
def test_a_request_that_cannot_be_understood_is_refused(ward, body, headers, params, status):
    answer = ward.send(body, headers=headers, **params)
    assert answer.status_code == status, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_mapping_that_is_not_there_is_not_found(ward):
    assert ward.send({}, mapping="none-such").status_code == 404


def test_an_enrolment_mapping_reads_no_readings(ward):
    assert ward.send({}, mapping="device-kit").status_code == 404


@pytest.mark.parametrize("path", ["readings/iot-hub", "enrolments/device-kit"])
def test_another_method_is_refused_with_an_outcome_and_the_method_there_is(ward, path):
    answer = requests.get(f"{ward.root}/{path}", timeout=30)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_body_over_the_limit_is_refused(ward):
    answer = ward.send(b'"' + b"x" * (17 * 1024 * 1024) + b'"')
    assert answer.status_code == 413


def test_an_empty_list_of_lines_is_decided_with_nothing(ward):
    answer = ward.send_lines([b"", b"  "])
    assert answer["results"] == []
