"""What a characteristic becomes: users, faults of the clock, words in the place of numbers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.mapping.catalog import MappingCatalog
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import (
    Fault,
    Gateway,
    IdentifierToken,
    Ignored,
    QuarantineReason,
    Reading,
)

RECEIVED = datetime(2026, 1, 1, 12, tzinfo=UTC)
GATEWAY = Gateway(RECEIVED)
DEVICE = "https://acme.example/serial|SN-1"
STAMP = "E8070301080000"  # 1 March 2024, 08:00:00


@pytest.fixture(scope="module")
def bluetooth(catalog: MappingCatalog) -> Mapping:
    mapping = catalog.get("bluetooth")
    assert isinstance(mapping, Mapping)
    return mapping


def payload(characteristic: str, value: str, **more: Any) -> dict[str, Any]:
    return {"device": DEVICE, "characteristic": characteristic, "value": value, **more}


def observations(
    mapping: Mapping, sent: dict[str, Any], placement: Placement, gateway: Gateway = GATEWAY
) -> list[Any]:
    found = mapping.read(sent, gateway)
    assert all(isinstance(outcome, Reading) for outcome in found), found
    return [mapping.project(o, placement, RECEIVED) for o in found if isinstance(o, Reading)]


def test_the_device_is_named_with_its_system_or_without(bluetooth: Mapping) -> None:
    sent = payload("2A37", "0048")
    (reading,) = bluetooth.read(sent, GATEWAY)
    assert isinstance(reading, Reading)
    assert reading.device == IdentifierToken("https://acme.example/serial", "SN-1")
    (reading,) = bluetooth.read({**sent, "device": "SN-1"}, GATEWAY)
    assert isinstance(reading, Reading)
    assert reading.device == IdentifierToken(None, "SN-1")


def test_a_gateway_may_name_the_device_that_the_payload_does_not(bluetooth: Mapping) -> None:
    sent = payload("2A37", "0048")
    del sent["device"]
    (reading,) = bluetooth.read(sent, GATEWAY._replace(device=IdentifierToken("s", "1")))
    assert isinstance(reading, Reading)
    assert reading.device == IdentifierToken("s", "1")


@pytest.mark.parametrize("value", ["1E78005000", "", "zz", "1E780", None, 7])
def test_bytes_that_are_cut_short_or_none_are_a_fault(bluetooth: Mapping, value: Any) -> None:
    (found,) = bluetooth.read(payload("2A35", value), GATEWAY)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.INVALID_PAYLOAD
    assert not value or str(value) not in found.detail


@given(
    characteristic=st.sampled_from(["2A18", "2A1C", "2A35", "2A37", "2A5E", "2A9D", "2AA7"]),
    value=st.binary(max_size=30),
    more=st.dictionaries(
        st.sampled_from(["now", "session-start", "context", "device"]),
        st.text(max_size=20) | st.binary(max_size=9).map(bytes.hex),
    ),
)
def test_whatever_comes_something_is_decided(
    bluetooth: Mapping, characteristic: str, value: bytes, more: dict[str, Any]
) -> None:
    sent = {**payload(characteristic, value.hex()), **more}
    assert bluetooth.read(sent, GATEWAY._replace(sent=RECEIVED))


@pytest.mark.parametrize(
    ("user", "is_clear"), [("00", True), ("01", True), ("02", False), ("FF", False)]
)
def test_a_cuff_of_two_people_is_not_guessed_about(
    bluetooth: Mapping, user: str, is_clear: bool
) -> None:
    sent = payload("2A35", "0A" + "780050005D00" + STAMP + user)
    (found,) = bluetooth.read(sent, GATEWAY)
    assert isinstance(found, Reading) is is_clear
    if not is_clear:
        assert isinstance(found, Fault)
        assert found.reason is QuarantineReason.USER_AMBIGUOUS
    known = GATEWAY._replace(patient=IdentifierToken("policy", "1"))
    (found,) = bluetooth.read(sent, known)
    assert isinstance(found, Reading)
    assert found.patient == IdentifierToken("policy", "1")


def test_kilopascal_is_stored_in_millimetres_and_kept(
    bluetooth: Mapping, placement: Placement
) -> None:
    sent = payload("2A35", "03" + "A0F06BF0FF07" + STAMP)
    (pressure,) = observations(bluetooth, sent, placement)
    systolic, diastolic, mean = pressure["component"]
    assert str(systolic["valueQuantity"]["value"]) == "120.0"
    original = systolic["valueQuantity"]["extension"][0]["valueQuantity"]
    assert (str(original["value"]), original["code"]) == ("16.0", "kPa")
    assert str(diastolic["valueQuantity"]["value"]) == "80.3"
    assert mean["dataAbsentReason"]["coding"][0]["code"] == "not-a-number"
    assert "valueQuantity" not in mean


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("FF07", "not-a-number"),
        ("FE07", "positive-infinity"),
        ("0208", "negative-infinity"),
        ("0008", "error"),
        ("0108", "error"),
    ],
)
def test_a_special_value_is_never_a_number(
    bluetooth: Mapping, placement: Placement, raw: str, code: str
) -> None:
    sent = payload("2A5E", "01" + raw + "4800" + STAMP)
    saturation, pulse = observations(bluetooth, sent, placement)
    assert saturation["dataAbsentReason"]["coding"][0]["code"] == code
    assert "valueQuantity" not in saturation
    assert pulse["valueQuantity"]["value"] == 72


def test_a_pulse_of_zero_was_not_taken(bluetooth: Mapping) -> None:
    found = bluetooth.read(payload("2A35", "06" + "780050005D00" + STAMP + "0000"), GATEWAY)
    assert [o.kind for o in found if isinstance(o, Reading)] == ["blood-pressure"]


def test_every_flag_of_a_cuff_is_a_bit_of_one_linked_observation(
    bluetooth: Mapping, placement: Placement
) -> None:
    # Movement, loose, irregular, pulse below the range, position: 0b110111.
    sent = payload("2A35", "12" + "780050005D00" + STAMP + "3700")
    pressure, status = observations(bluetooth, sent, placement)
    codes = [part["code"]["coding"][0]["code"] for part in status["component"]]
    assert codes == [f"8410608.{bit}" for bit in (0, 1, 2, 4, 5)]
    assert status["code"]["coding"][0]["code"] == "8410608"
    assert status["derivedFrom"][0]["identifier"] == pressure["identifier"][0]
    assert status["identifier"] != pressure["identifier"]
    questionable = [c["coding"][0]["code"] for c in pressure["interpretation"]]
    assert questionable[-1] == "questionable"


def test_the_bits_of_a_monitor_are_mapped_by_meaning(
    bluetooth: Mapping, placement: Placement
) -> None:
    sent = payload("2AA7", "09E0280014000008C0", **{"session-start": "2024-03-01T08:00:00"})
    _, status = observations(bluetooth, sent, placement)
    codes = [part["code"]["coding"][0]["code"] for part in status["component"]]
    assert codes == ["8418060.9", "8418060.18", "8418060.19"]


def test_a_value_at_the_limit_has_a_comparator(bluetooth: Mapping, placement: Placement) -> None:
    sent = payload("2A18", "0A0700" + STAMP + "58B2" + "11" + "2000")
    glucose, _ = observations(bluetooth, sent, placement)
    quantity = glucose["valueQuantity"]
    assert (quantity["value"], quantity["comparator"]) == (600, ">")


@pytest.mark.parametrize(("status", "reason"), [("2000", "unknown"), ("1000", "error")])
def test_a_result_without_a_number_says_why(
    bluetooth: Mapping, placement: Placement, status: str, reason: str
) -> None:
    sent = payload("2A18", "080800" + STAMP + status)
    glucose, _ = observations(bluetooth, sent, placement)
    assert glucose["dataAbsentReason"]["coding"][0]["code"] == reason
    assert "valueQuantity" not in glucose
    assert glucose["interpretation"]


@pytest.mark.parametrize("sample", ["1A", "41"])
def test_a_control_solution_is_never_a_patients_value(bluetooth: Mapping, sample: str) -> None:
    sent = payload("2A18", "020800" + STAMP + "5FB0" + sample)
    assert bluetooth.read(sent, GATEWAY) == (Ignored("control-solution"),)


def test_venous_blood_is_not_passed_off_as_capillary(bluetooth: Mapping) -> None:
    (found,) = bluetooth.read(payload("2A18", "020800" + STAMP + "5FB013"), GATEWAY)
    assert isinstance(found, Fault)


def test_a_time_fault_is_an_unknown_time_with_the_arrival_kept(
    bluetooth: Mapping, placement: Placement
) -> None:
    sent = payload("2A18", "0A0B00" + STAMP + "5FB0" + "11" + "0008")
    (glucose,) = observations(bluetooth, sent, placement)
    assert "effectiveDateTime" not in glucose
    assert glucose["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"
    assert glucose["issued"] == "2026-01-01T12:00:00.000Z"
    (reading,) = bluetooth.read(sent, GATEWAY)
    assert isinstance(reading, Reading)
    assert reading.measured == RECEIVED
    assert reading.stamp == "2024-03-01T08:00:00"


def test_a_device_without_a_clock_measures_when_it_sends(bluetooth: Mapping) -> None:
    sent_at = RECEIVED - timedelta(seconds=7)
    (reading,) = bluetooth.read(payload("2A37", "0048"), GATEWAY._replace(sent=sent_at))
    assert isinstance(reading, Reading)
    assert reading.measured == sent_at
    assert reading.effective == "2026-01-01T11:59:53Z"


def test_a_minute_of_an_unknown_session_has_no_time_but_a_key(bluetooth: Mapping) -> None:
    (first,) = bluetooth.read(payload("2AA7", "060078000F00"), GATEWAY)
    (second,) = bluetooth.read(payload("2AA7", "060078001400"), GATEWAY)
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert (first.effective, second.effective) == ("", "")
    assert first.stamp != second.stamp
    again = bluetooth.read(payload("2AA7", "060078000F00"), Gateway(RECEIVED + timedelta(hours=1)))
    assert isinstance(again[0], Reading)
    assert again[0].stamp == first.stamp
