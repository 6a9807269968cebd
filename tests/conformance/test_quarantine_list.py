"""The quarantine as a work list: by reason, by device, by age, and how old the oldest is."""

import pytest
import requests

from tests.conformance.conftest import Server
from tests.conformance.ward import SERIAL, pulse


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


def waiting(ward, **asked):
    answer = ward.http.get(f"{ward.root}/readings/quarantine", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["quarantined"]


def oldest(ward):
    lines = requests.get(f"{ward.root}/metrics", timeout=10).text.splitlines()
    (line,) = [x for x in lines if x.startswith("fhir_server_quarantine_oldest_seconds ")]
    return float(line.split()[1])


def test_what_waits_is_found_by_device_reason_and_age(ward):
    assert oldest(ward) == 0
    for serial in ("w-1", "w-2"):
        assert ward.verdict(pulse(serial))["verdict"] == "quarantined"
    ward.verdict({"odd": 1})
    assert oldest(ward) > 0
    (line,) = waiting(ward, device="w-1")
    assert line["device"].endswith("w-1")
    assert waiting(ward, device=line["device"]) == [line]
    assert len(waiting(ward, reason="device-unknown")) == 2
    assert len(waiting(ward, before="2100-01-01")) == 3
    assert waiting(ward, before="2020-01-01") == []
    assert ward.http.get(f"{ward.root}/readings/quarantine?before=x").status_code == 400


def test_those_of_one_device_are_tried_again(ward):
    patient, _ = ward.patient()
    for serial in ("r-1", "r-2"):
        ward.verdict(pulse(serial))
        device = ward.create(
            {"resourceType": "Device", "identifier": [{"system": SERIAL, "value": serial}]}
        )
        ward.assign(device, patient)
    url = f"{ward.root}/readings/quarantine/reprocess"
    answer = ward.http.post(url, params={"device": "r-1"}).json()
    assert (answer["accepted"], len(answer["results"])) == (1, 1)
    assert not waiting(ward, device="r-1")
    assert waiting(ward, device="r-2")
