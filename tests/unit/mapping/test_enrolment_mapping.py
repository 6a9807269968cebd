"""An enrolment mapping: a kit's payload becomes a prescription, or says why not."""

import copy
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.core import resource_json
from fhir_server.core.mapping.files import MappingFiles
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.prescription import Prescription
from fhir_server.core.mapping.reading import Fault, Gateway, IdentifierToken

SERIAL = "https://pmp.example/fhir/NamingSystem/device-serial"


@pytest.fixture
def kits(files: dict[str, MappingFiles]) -> dict[str, Any]:
    return {
        example.case: resource_json.parse(example.payload_text.encode())
        for example in files["device-kit"].examples
    }


def prescribed(mapping: Mapping, payload: Any) -> Prescription:
    found = mapping.prescription(payload)
    assert isinstance(found, Prescription), found
    return found


def test_a_kit_names_patient_devices_plan_and_limits(
    device_kit: Mapping, kits: dict[str, Any]
) -> None:
    kit = prescribed(device_kit, kits["hypertension"])
    assert kit.identifier.value == "KIT-2015-0001"
    assert (kit.plan, kit.start, kit.end) == ("hypertension", "2015-09-01", "2015-12-31")
    assert kit.patient.given == ("Anna", "Petrovna")
    assert kit.patient.gender == "female"
    assert kit.devices[0].identifiers == (IdentifierToken(SERIAL, "IH-BP7-0001"),)
    assert kit.devices[0].types[0].code == "528391"
    systolic = kit.limits[0]
    assert systolic.name == "blood-pressure.systolic"
    assert systolic.codes[0].code == "8480-6"
    assert (systolic.low, systolic.high) == (Decimal(90), Decimal(135))
    assert kit.physician is not None
    assert kit.physician.identifiers[0].value == "DR-0417"


def test_an_activity_is_answered_in_every_unit_of_its_kind(
    device_kit: Mapping, kits: dict[str, Any]
) -> None:
    kit = prescribed(device_kit, kits["diabetes"])
    activity = kit.activities[0]
    assert [coding.code for coding in activity.codes] == ["14743-9", "41653-7"]
    assert activity.timing is not None
    assert activity.timing.times_of_day == ("08:00:00", "10:30:00")
    assert str(kit.limits[0].high) == "10.0"


def test_a_bracelet_is_auxiliary(device_kit: Mapping, kits: dict[str, Any]) -> None:
    kit = prescribed(device_kit, kits["diabetes"])
    assert [device.is_auxiliary for device in kit.devices] == [False, True]


def test_a_kit_without_an_end_or_a_physician_is_one(
    device_kit: Mapping, kits: dict[str, Any]
) -> None:
    payload = kits["heart-failure"]
    del payload["prescription"]["period"]["end"]
    kit = prescribed(device_kit, payload)
    assert kit.end == ""
    assert kit.physician is None


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("devices", 0, "type"), "toaster", "devices[0]: the type of device is not known"),
        (("devices", 0, "standing"), "?", "devices[0].standing breaks `enum`"),
        (("devices",), [], "devices breaks `minItems`"),
        (("patient", "identifiers", 0, "value"), " ", None),
        (("patient", "identifiers"), [], "patient.identifiers"),
        (("patient", "birthDate"), "14.03.1958", "patient: the birth date is no date"),
        (("prescription", "period", "end"), "2015-08-31", "end: before the start"),
        (("prescription", "period", "start"), "soon", "start: no date"),
        (("prescription", "period", "start"), "2015-09-01T10:00:00", "start: no date"),
        (("prescription", "activities", 0, "measure"), "mood", "activities[0]: the kind"),
        (("prescription", "activities", 0, "timing", "when"), ["SOON"], "activities[0]: a time"),
        (("prescription", "limits", 0, "unit"), "kg", "limits[0]: the unit does not fit"),
        (("prescription", "limits", 0, "measure"), "mood", "limits[0]: what is limited"),
        (("prescription", "limits", 0, "low"), 200, "limits[0]: the low limit is above"),
    ],
)
def test_what_cannot_be_carried_out_is_named_by_its_place(
    device_kit: Mapping, kits: dict[str, Any], path: tuple[Any, ...], value: Any, says: str | None
) -> None:
    payload = copy.deepcopy(kits["hypertension"])
    holder = payload
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    found = device_kit.prescription(payload)
    if says is None:
        assert isinstance(found, Prescription)
        return
    assert isinstance(found, Fault)
    assert says in found.detail
    assert "toaster" not in found.detail


def test_two_devices_with_one_identifier_are_refused(
    device_kit: Mapping, kits: dict[str, Any]
) -> None:
    payload = kits["hypertension"]
    payload["devices"][1]["identifiers"] = payload["devices"][0]["identifiers"]
    found = device_kit.prescription(payload)
    assert isinstance(found, Fault)
    assert "two have the same identifier" in found.detail


def test_a_readings_mapping_enrols_nobody_and_a_kit_holds_no_readings(
    device_kit: Mapping, iot_hub: Mapping, kits: dict[str, Any], gateway: Gateway
) -> None:
    assert isinstance(iot_hub.prescription(kits["diabetes"]), Fault)
    (outcome,) = device_kit.read(kits["diabetes"], gateway)
    assert isinstance(outcome, Fault)
