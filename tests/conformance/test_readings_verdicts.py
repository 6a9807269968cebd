"""POST /readings: each reading gets its verdict, none is lost, none is guessed."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.ward import Ward, pulse


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
