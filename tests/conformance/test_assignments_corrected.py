"""Who had the device: refused twice, and corrected afterwards."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.conftest import Server
from tests.conformance.ward import Ward, pulse


@pytest.fixture(scope="module")
def server():
    with Server(placing_seconds=0.05) as running:
        yield running


def statement(device, patient, **timing):
    return {
        "resourceType": "DeviceUseStatement",
        "status": "active",
        "subject": {"reference": f"Patient/{patient['id']}"},
        "device": {"reference": f"Device/{device['id']}"},
        "timingPeriod": timing or {"start": "2020-01-01"},
    }


def until(look, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def placed(ward, device):
    """Wait until no work on the device is open; its counts."""
    focus = f"Task?focus=Device/{device['id']}&code=place-readings-again"
    until(lambda: not ward.search(f"{focus}&status=requested,in-progress"))
    return [
        {part["type"]["coding"][0]["code"]: part["valueUnsignedInt"] for part in task["output"]}
        for task in ward.search(f"{focus}&_sort=_lastUpdated")
    ]


def subjects(ward, device):
    found = ward.search(f"Observation?device=Device/{device['id']}&code=8867-4&_count=1000")
    return [(o["effectiveDateTime"][:10], o["subject"]["reference"], o["status"]) for o in found]


class TestOverlap:
    def refused(self, ward, method, path, body, **headers):
        answer = ward.http.request(
            method, f"{ward.root}/fhir{path}", json=body, headers=headers or None
        )
        assert answer.status_code == 409, answer.text
        return answer.json()["issue"][0]

    def kits(self, ward):
        (one, _), (other, _) = ward.patient(), ward.patient()
        device, serial = ward.device()
        return device, serial, one, other

    def test_a_second_patient_at_the_same_time_is_refused(self, ward):
        device, _, one, other = self.kits(ward)
        ward.create(statement(device, one, start="2024-01-01", end="2024-01-31"))
        later = statement(device, other, start="2024-01-31")
        issue = self.refused(ward, "POST", "/DeviceUseStatement", later)
        assert issue["expression"] == ["DeviceUseStatement.timing"]
        assert issue["code"] == "conflict"

    def test_the_day_after_is_no_overlap(self, ward):
        device, _, one, other = self.kits(ward)
        ward.create(statement(device, one, start="2024-01-01", end="2024-01-31"))
        ward.create(statement(device, other, start="2024-02-01"))

    def test_an_update_and_a_patch_are_refused_too(self, ward):
        device, _, one, other = self.kits(ward)
        ward.create(statement(device, one, start="2024-01-01", end="2024-01-31"))
        second = ward.create(statement(device, other, start="2024-02-01"))
        path = f"/DeviceUseStatement/{second['id']}"
        early = {**second, "timingPeriod": {"start": "2024-01-15"}}
        self.refused(ward, "PUT", path, early)
        patch = [{"op": "replace", "path": "/timingPeriod/start", "value": "2024-01-15"}]
        answer = ward.http.patch(
            f"{ward.root}/fhir{path}", json=patch,
            headers={"Content-Type": "application/json-patch+json"},
        )  # fmt: skip
        assert answer.status_code == 409
        assert ward.get(path[1:])["meta"]["versionId"] == "1"

    def test_a_transaction_is_judged_by_what_it_ends_in(self, ward):
        device, _, one, other = self.kits(ward)
        first = ward.create(statement(device, one))
        ended = {**first, "timingPeriod": {"start": "2020-01-01", "end": "2024-01-31"}}

        def bundle(*resources):
            entries = []
            for resource in resources:
                name = f"DeviceUseStatement/{resource['id']}" if "id" in resource else ""
                request = {"method": "PUT" if name else "POST"}
                request["url"] = name or "DeviceUseStatement"
                entries.append({"resource": resource, "request": request})
            return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

        later = statement(device, other, start="2024-02-01")
        self.refused(ward, "POST", "", bundle(later))
        answer = ward.http.post(f"{ward.root}/fhir", json=bundle(later, ended))
        assert answer.status_code == 200, answer.text

    def test_of_racing_writers_one_wins(self, ward):
        device, _, _, _ = self.kits(ward)
        patients = [ward.patient()[0] for _ in range(8)]

        def write(patient):
            url = f"{ward.root}/fhir/DeviceUseStatement"
            return Ward(ward.root).http.post(url, json=statement(device, patient)).status_code

        with ThreadPoolExecutor(8) as pool:
            answers = sorted(pool.map(write, patients))
        assert answers == [201] + [409] * 7

    @pytest.mark.parametrize("status", ["entered-in-error", "intended"])
    def test_what_assigns_nothing_overlaps_nothing(self, ward, status):
        device, _, one, other = self.kits(ward)
        ward.create({**statement(device, one), "status": status})
        ward.create(statement(device, other))


class TestCorrection:
    def kit(self, ward, *days):
        patient, _ = ward.patient()
        device, serial = ward.device()
        held = ward.create(statement(device, patient))
        for day in days:
            self.send(ward, serial, day)
        return patient, device, serial, held

    def send(self, ward, serial, day):
        return ward.verdict(pulse(serial, time=f"2024-03-{day:02}T08:00:00Z"))["verdict"]

    def test_readings_follow_a_corrected_subject(self, ward):
        patient, device, _, held = self.kit(ward, 1, 2)
        other, _ = ward.patient()
        right = {"reference": f"Patient/{other['id']}"}
        ward.put({**held, "subject": right})
        (counts,) = placed(ward, device)
        assert counts["moved"] == 2
        assert {subject for _, subject, _ in subjects(ward, device)} == {right["reference"]}
        assert not ward.search(f"Observation?patient=Patient/{patient['id']}")

    def test_a_moved_reading_says_what_why_and_by_which_statement(self, ward):
        _, device, _, held = self.kit(ward, 1)
        other, _ = ward.patient()
        ward.put({**held, "subject": {"reference": f"Patient/{other['id']}"}})
        placed(ward, device)
        (moved,) = ward.search(f"Observation?device=Device/{device['id']}")
        assert moved["meta"]["versionId"] == "2"
        assert moved["status"] == "corrected"
        assert moved["performer"] == [{"reference": f"Patient/{other['id']}"}]
        (told,) = ward.search(f"Provenance?target=Observation/{moved['id']}")
        assert told["target"] == [{"reference": f"Observation/{moved['id']}/_history/2"}]
        what = told["entity"][0]["what"]["reference"]
        assert what == f"DeviceUseStatement/{held['id']}/_history/2"
        first = ward.get(f"Observation/{moved['id']}/_history/1")
        assert first["subject"] == held["subject"]

    def test_a_moved_reading_sent_again_is_a_duplicate(self, ward):
        _, device, serial, held = self.kit(ward, 1)
        for _ in range(2):
            other, _ = ward.patient()
            held = ward.put({**held, "subject": {"reference": f"Patient/{other['id']}"}})
            # Before it is moved, and afterwards.
            assert self.send(ward, serial, 1) == "duplicate"
            placed(ward, device)
            assert self.send(ward, serial, 1) == "duplicate"
        assert len(subjects(ward, device)) == 1

    def test_only_what_lies_in_the_corrected_time_is_moved(self, ward):
        patient, device, _, held = self.kit(ward, 1, 10, 20)
        other, _ = ward.patient()
        ward.put({**held, "timingPeriod": {"start": "2020-01-01", "end": "2024-03-05"}})
        ward.create(statement(device, other, start="2024-03-06", end="2024-03-15"))
        placed(ward, device)
        mine, theirs = f"Patient/{patient['id']}", f"Patient/{other['id']}"
        assert sorted(subjects(ward, device)) == [
            ("2024-03-01", mine, "final"),
            ("2024-03-10", theirs, "corrected"),
            ("2024-03-20", mine, "entered-in-error"),
        ]

    @pytest.mark.parametrize("way", ["delete", "entered-in-error"])
    def test_readings_that_nobody_had_wait_and_come_back(self, ward, way):
        _, device, serial, held = self.kit(ward, 1)
        if way == "delete":
            url = f"{ward.root}/fhir/DeviceUseStatement/{held['id']}"
            assert ward.http.delete(url).status_code < 300
        else:
            ward.put({**held, "status": "entered-in-error"})
        (counts,) = placed(ward, device)
        assert counts["withdrawn"] == 1
        ((_, _, status),) = subjects(ward, device)
        assert status == "entered-in-error"
        (observation,) = ward.search(f"Observation?device=Device/{device['id']}")
        (task,) = ward.search(f"Task?focus=Observation/{observation['id']}")
        assert task["status"] == "requested"
        assert task["businessStatus"]["coding"][0]["code"] == "device-not-assigned"
        other, _ = ward.patient()
        ward.create(statement(device, other))
        placed(ward, device)
        assert subjects(ward, device) == [("2024-03-01", f"Patient/{other['id']}", "corrected")]
        assert ward.get(f"Task/{task['id']}")["status"] == "completed"
        assert self.send(ward, serial, 1) == "duplicate"

    def test_what_a_person_called_wrong_stays_so(self, ward):
        _, device, _, held = self.kit(ward, 1)
        (observation,) = ward.search(f"Observation?device=Device/{device['id']}")
        ward.put({**observation, "status": "entered-in-error"})
        other, _ = ward.patient()
        ward.put({**held, "subject": {"reference": f"Patient/{other['id']}"}})
        placed(ward, device)
        assert ward.get(f"Observation/{observation['id']}")["meta"]["versionId"] == "2"

    def test_what_was_held_back_is_released_by_the_assignment(self, ward):
        device, serial = ward.device()
        assert self.send(ward, serial, 1) == "quarantined"
        patient, _ = ward.patient()
        ward.create(statement(device, patient))
        (counts,) = placed(ward, device)
        assert counts["released"] == 1
        assert [subject for _, subject, _ in subjects(ward, device)] == [f"Patient/{patient['id']}"]

    def test_a_first_assignment_leaves_no_work(self, ward):
        device, _ = ward.device()
        patient, _ = ward.patient()
        ward.create(statement(device, patient))
        assert not ward.search(f"Task?focus=Device/{device['id']}")

    def test_a_lost_device_found_again_belongs_to_who_has_it_then(self, ward):
        _, device, serial, held = self.kit(ward, 1)
        ward.put({**held, "timingPeriod": {"start": "2020-01-01", "end": "2024-03-05"}})
        assert self.send(ward, serial, 8) == "quarantined"
        finder, _ = ward.patient()
        ward.create(statement(device, finder, start="2024-03-10"))
        assert self.send(ward, serial, 11) == "accepted"
        placed(ward, device)
        assert [s for d, s, _ in subjects(ward, device)] != []
        assert ward.search(f"Task?requester:identifier={serial}&status=requested")

    def test_an_exchange_gives_the_patient_another_device(self, ward):
        patient, device, serial, held = self.kit(ward, 1)
        ward.put({**held, "timingPeriod": {"start": "2020-01-01", "end": "2024-03-05"}})
        new_device, new_serial = ward.device()
        ward.create(statement(new_device, patient, start="2024-03-05"))
        assert self.send(ward, new_serial, 5) == "accepted"
        # What the old one still had in its memory is the patient's as well.
        assert self.send(ward, serial, 4) == "accepted"
        mine = f"Patient/{patient['id']}"
        assert {s for _, s, _ in subjects(ward, device) + subjects(ward, new_device)} == {mine}

    def test_a_long_history_is_moved_in_pieces(self, ward):
        _, device, serial, held = self.kit(ward)
        lines = [
            pulse(serial, time=f"2024-03-{1 + n // 60:02}T08:{n % 60:02}:00Z") for n in range(250)
        ]
        assert ward.send_lines(lines)["accepted"] == 250
        other, _ = ward.patient()
        ward.put({**held, "subject": {"reference": f"Patient/{other['id']}"}})
        (counts,) = placed(ward, device)
        assert counts["moved"] == 250
        assert {s for _, s, _ in subjects(ward, device)} == {f"Patient/{other['id']}"}
        assert len(ward.search(f"Provenance?entity=DeviceUseStatement/{held['id']}")) == 3
