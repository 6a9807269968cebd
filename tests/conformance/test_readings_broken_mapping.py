"""A mapping with faults loses no reading: they wait until it is mended."""

import shutil
from pathlib import Path

import requests

SHIPPED = Path(__file__).parents[2] / "mappings" / "iot-hub"

PAYLOAD = {
    "type": "Heart Rate",
    "time": "2024-03-10T08:00:00Z",
    "device": "device-1",
    "values": {"beatsPerMinute": 66},
}


def mapping_in(folder, text):
    target = folder / "clinic"
    if not target.exists():
        shutil.copytree(SHIPPED, target)
    (target / "mapping.yaml").write_text(text)


def enrol(fhir):
    identifier = [{"system": "https://maker.example/serial", "value": "device-1"}]
    use = {
        "resourceType": "DeviceUseStatement",
        "id": "u",
        "status": "active",
        "subject": {"reference": "Patient/p"},
        "device": {"reference": "Device/d"},
        "timingPeriod": {"start": "2024-01-01"},
    }
    for resource in (
        {"resourceType": "Patient", "id": "p"},
        {"resourceType": "Device", "id": "d", "identifier": identifier},
        use,
    ):
        path = f"{resource['resourceType']}/{resource['id']}"
        assert requests.put(f"{fhir}/{path}", json=resource, timeout=30).status_code == 201


def test_readings_of_a_broken_mapping_wait_until_it_is_mended(server, tmp_path):
    good = (SHIPPED / "mapping.yaml").read_text().replace("mapping: iot-hub", "mapping: clinic")
    settings = {
        "store": f"sqlite:///{tmp_path / 'fhir.db'}",
        "mappings": (tmp_path / "mappings",),
    }
    (tmp_path / "mappings").mkdir()
    mapping_in(tmp_path / "mappings", good.replace("8867-4", "8462-4"))
    with type(server)(**settings) as broken:
        enrol(broken.fhir)
        answer = requests.post(f"{broken.url}/readings/clinic", json=PAYLOAD, timeout=30).json()
        (held,) = answer["results"]
        assert (held["verdict"], held["reason"]) == ("quarantined", "mapping-broken")
        others = requests.post(f"{broken.url}/readings/iot-hub", json=PAYLOAD, timeout=30).json()
        assert others["accepted"] == 1
        refused = requests.post(f"{broken.url}/enrolments/clinic", json={}, timeout=30)
        assert refused.status_code == 404
    mapping_in(tmp_path / "mappings", good)
    with type(server)(**settings) as mended:
        path = f"{mended.url}/readings/quarantine/reprocess"
        answer = requests.post(path, params={"reason": "mapping-broken"}, timeout=30).json()
        (result,) = answer["results"]
        # The same measurement came in by the other mapping, whose readings have the same key.
        assert result["verdict"] == "duplicate"
        waiting = requests.get(f"{mended.url}/readings/quarantine", timeout=30).json()
        assert waiting["quarantined"] == []


def test_a_payload_whose_mapping_is_gone_waits_for_it(server, tmp_path):
    good = (SHIPPED / "mapping.yaml").read_text().replace("mapping: iot-hub", "mapping: clinic")
    store = f"sqlite:///{tmp_path / 'fhir.db'}"
    (tmp_path / "mappings").mkdir()
    mapping_in(tmp_path / "mappings", good)
    with type(server)(store=store, mappings=(tmp_path / "mappings",)) as running:
        sent = requests.post(f"{running.url}/readings/clinic", json=PAYLOAD, timeout=30).json()
        assert sent["quarantined"] == 1
    with type(server)(store=store) as without:
        path = f"{without.url}/readings/quarantine/reprocess"
        (result,) = requests.post(path, timeout=30).json()["results"]
        assert (result["verdict"], result["reason"]) == ("quarantined", "mapping-broken")
