"""Profiles of an installation reach each reading, not only the first one of its shape."""

import json
import shutil
from pathlib import Path

import pytest
import requests

SHIPPED = Path(__file__).parents[2] / "mappings" / "iot-hub"
URL = "https://clinic.example/StructureDefinition/pulse"
DEVICE = {
    "resourceType": "Device",
    "id": "d",
    "identifier": [{"system": "https://maker.example/serial", "value": "device-1"}],
}
USE = {
    "resourceType": "DeviceUseStatement",
    "id": "u",
    "status": "active",
    "subject": {"reference": "Patient/p"},
    "device": {"reference": "Device/d"},
    "timingPeriod": {"start": "2024-01-01"},
}
UP_TO_200 = {"value": 200, "system": "http://unitsofmeasure.org", "code": "/min"}


def profile(**element):
    return {
        "resourceType": "StructureDefinition",
        "id": "pulse",
        "url": URL,
        "name": "Pulse",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": "Observation",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/heartrate",
        "derivation": "constraint",
        "differential": {"element": [element]},
    }


LIMITS = {
    "limit of a quantity": {"path": "Observation.value[x]", "maxValueQuantity": UP_TO_200},
    "limit of its number": {"path": "Observation.value[x].value", "maxValueDecimal": 200},
    "invariant": {
        "path": "Observation",
        "constraint": [
            {
                "key": "pulse-1",
                "severity": "error",
                "human": "No pulse is above 200.",
                "expression": "value.value <= 200",
            }
        ],
    },
}


@pytest.fixture
def folders(tmp_path):
    """A mapping whose pulse claims a profile, and a folder for profiles."""
    clinic = tmp_path / "mappings" / "clinic"
    shutil.copytree(SHIPPED, clinic)
    text = (clinic / "mapping.yaml").read_text().replace("mapping: iot-hub", "mapping: clinic")
    (clinic / "mapping.yaml").write_text(
        text.replace("- kind: heart-rate\n", f"- kind: heart-rate\n        profile: [{URL}]\n")
    )
    (tmp_path / "profiles").mkdir()
    return {"mappings": (tmp_path / "mappings",), "profiles": (tmp_path / "profiles",)}


def put(server, *resources):
    for resource in resources:
        path = f"{server.fhir}/{resource['resourceType']}/{resource['id']}"
        assert requests.put(path, json=resource, timeout=30).status_code == 201


def verdict(server, minute, pulse):
    payload = {
        "type": "Heart Rate",
        "time": f"2024-03-10T08:{minute:02}:00Z",
        "device": "device-1",
        "values": {"beatsPerMinute": pulse},
    }
    answer = requests.post(f"{server.url}/readings/clinic", json=payload, timeout=30).json()
    (result,) = answer["results"]
    return result["verdict"], result.get("reason")


@pytest.mark.parametrize("element", LIMITS.values(), ids=LIMITS)
def test_a_limit_of_a_profile_reaches_every_reading_of_a_shape(server, folders, element):
    (folder,) = folders["profiles"]
    (folder / "StructureDefinition-pulse.json").write_text(json.dumps(profile(**element)))
    with type(server)(**folders) as running:
        put(running, {"resourceType": "Patient", "id": "p"}, DEVICE, USE)
        assert verdict(running, 0, 66) == ("accepted", None)
        assert verdict(running, 1, 67) == ("accepted", None)
        assert verdict(running, 2, 250) == ("quarantined", "invalid-resource")
        assert verdict(running, 3, 68) == ("accepted", None)


def test_a_profile_that_is_stored_later_counts_for_a_shape_that_was_accepted(server, folders):
    with type(server)(**folders) as running:
        put(running, {"resourceType": "Patient", "id": "p"}, DEVICE, USE)
        assert verdict(running, 0, 66) == ("accepted", None)
        assert verdict(running, 1, 67) == ("accepted", None)
        put(running, profile(path="Observation.bodySite", min=1))
        assert verdict(running, 2, 68) == ("quarantined", "invalid-resource")
        gone = requests.delete(f"{running.fhir}/StructureDefinition/pulse", timeout=30)
        assert gone.status_code in (200, 204)
        assert verdict(running, 3, 69) == ("accepted", None)
