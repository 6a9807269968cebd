"""Raw devices over HTTP: the gateway's clock, the device's, and what is stored twice."""

import itertools
from typing import Any

import pytest

_NUMBERS = itertools.count(1)


@pytest.fixture
def cuff(client: Any) -> str:
    """A cuff of its own, held by a patient since 2020: `system|value`."""
    system, value = "https://acme.example/serial", f"BT-{next(_NUMBERS)}"
    device = client.create(
        {"resourceType": "Device", "identifier": [{"system": system, "value": value}]}
    )
    patient = client.create({"resourceType": "Patient"})
    client.create(
        {
            "resourceType": "DeviceUseStatement",
            "status": "active",
            "subject": {"reference": f"Patient/{patient['id']}"},
            "device": {"reference": f"Device/{device['id']}"},
            "timingPeriod": {"start": "2020-01-01T00:00:00Z"},
        }
    )
    return f"{system}|{value}"


def send(client: Any, payload: dict[str, Any], gateway_time: str) -> Any:
    url = client.base.removesuffix("/fhir") + "/readings/bluetooth"
    headers = {"Content-Type": "application/json", "X-Gateway-Time": gateway_time}
    response = client.session.post(url, json=payload, headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_reading_of_a_wrong_clock_is_stored_once_and_beside_both_clocks(
    client: Any, cuff: str
) -> None:
    payload = {
        "device": cuff,
        "characteristic": "2A35",
        "value": "12" + "780050005D00" + "E8070301080000" + "0400",
        "now": "2024-03-01T08:10:00+03:00",
    }
    first = send(client, payload, "2024-03-01T08:20:00+03:00")
    assert [r["verdict"] for r in first["results"]] == ["accepted"] * 3
    pressure, status, clock = (client.get(r["resources"][0]).json() for r in first["results"])
    assert pressure["effectiveDateTime"] == "2024-03-01T08:10:00+03:00"
    assert clock["code"]["coding"][0]["code"] == "67975"
    assert clock["subject"]["reference"].startswith("Device/")
    names = [source["identifier"] for source in status["derivedFrom"]]
    assert names == [pressure["identifier"][0], clock["identifier"][0]]

    again = send(client, payload, "2024-03-01T08:20:00+03:00")
    assert (again["duplicate"], again["accepted"]) == (3, 0)
    # In a session a day later the clock is another two minutes behind: that is news, the
    # reading is not.
    later = send(
        client, {**payload, "now": "2024-03-02T08:00:00+03:00"}, "2024-03-02T08:12:00+03:00"
    )
    assert (later["duplicate"], later["accepted"], later["conflict"]) == (2, 1, 0)


def test_bytes_cut_short_wait_in_quarantine(client: Any, cuff: str) -> None:
    payload = {"device": cuff, "characteristic": "2A35", "value": "1E7800"}
    answer = send(client, payload, "2024-03-01T08:20:00+03:00")
    assert answer["quarantined"] == 1
    assert answer["results"][0]["reason"] == "invalid-payload"
