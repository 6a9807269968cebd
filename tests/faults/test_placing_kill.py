"""A corrected assignment, and a server that is killed while it places readings again."""

import json
import time

import requests

from tests.conformance.ward import SERIAL, pulse
from tests.faults.kit import SCALE, Server, running

READINGS = 1_500
KILLS = max(1, int(SCALE))


def test_readings_find_their_patient_whenever_the_server_dies(tmp_path):
    server = Server(tmp_path, placing_seconds="0.05")
    with running(server):
        for patient in "ab":
            send(server, f"Patient/{patient}", {"resourceType": "Patient"})
        device = {"resourceType": "Device", "identifier": [{"system": SERIAL, "value": "k"}]}
        send(server, "Device/d", device)
        send(server, "DeviceUseStatement/s", statement("a"))
        lines = "\n".join(line(number) for number in range(READINGS))
        assert post(server, lines)["accepted"] == READINGS
        patient = "a"
        for _ in range(KILLS):
            former, patient = patient, "b" if patient == "a" else "a"
            send(server, "DeviceUseStatement/s", statement(patient))
            wait_for(lambda: count(server, patient))  # noqa: B023 - asked at once
            server.kill()
            server.start()
            assert count(server, former) > 0, "it was not killed in the middle of it"
            wait_for(lambda: not is_working(server))
        assert count(server, patient) == READINGS
        found = server.get("Observation", subject=f"Patient/{patient}", _count=1_000).json()
        versions = {entry["resource"]["meta"]["versionId"] for entry in found["entry"]}
        assert versions == {str(1 + KILLS)}
        assert post(server, lines)["duplicate"] == READINGS


def count(server, patient):
    asked = {"subject": f"Patient/{patient}", "_summary": "count"}
    return server.get("Observation", **asked).json()["total"]


def is_working(server):
    open_work = {"code": "place-readings-again", "status": "requested,in-progress"}
    return server.get("Task", **open_work, _summary="count").json()["total"]


def wait_for(look):
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def statement(patient):
    return {
        "resourceType": "DeviceUseStatement",
        "status": "active",
        "subject": {"reference": f"Patient/{patient}"},
        "device": {"reference": "Device/d"},
        "timingPeriod": {"start": "2020-01-01"},
    }


def line(number):
    minute, second = divmod(number, 60)
    return json.dumps(pulse("k", time=f"2024-03-01T08:{minute:02}:{second:02}Z"))


def post(server, lines):
    answer = requests.post(
        f"{server.url}/readings/iot-hub",
        data=lines,
        headers={"Content-Type": "application/x-ndjson"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def send(server, path, resource):
    body = {"id": path.partition("/")[2], **resource}
    answer = requests.put(f"{server.url}/fhir/{path}", json=body, timeout=30)
    assert answer.status_code in (200, 201), answer.text
