"""Each characteristic, whatever its flags announce."""

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.bluetooth.characteristic import (
    CHARACTERISTICS,
    InvalidOctetsError,
    decode,
    decode_date_time,
)

STAMP = bytes.fromhex("E8070301080000")


def sfloat(number: int, exponent: int = 0) -> bytes:
    return ((exponent & 0xF) << 12 | number & 0xFFF).to_bytes(2, "little")


PRESSURES = st.fixed_dictionaries(
    {
        "pressures": st.tuples(*[st.integers(1, 300)] * 3),
        "kpa": st.booleans(),
        "stamp": st.booleans(),
        "pulse": st.none() | st.integers(1, 250),
        "user": st.none() | st.integers(0, 255),
        "status": st.none() | st.integers(0, 0xFFFF),
        "reserved": st.integers(0, 7),
    }
)


def encode_pressure(told: dict[str, Any]) -> bytes:
    flags = (
        told["kpa"]
        | told["stamp"] << 1
        | (told["pulse"] is not None) << 2
        | (told["user"] is not None) << 3
        | (told["status"] is not None) << 4
        | told["reserved"] << 5
    )
    parts = [bytes([flags]), *[sfloat(pressure) for pressure in told["pressures"]]]
    if told["stamp"]:
        parts.append(STAMP)
    if told["pulse"] is not None:
        parts.append(sfloat(told["pulse"]))
    if told["user"] is not None:
        parts.append(bytes([told["user"]]))
    if told["status"] is not None:
        parts.append(told["status"].to_bytes(2, "little"))
    return b"".join(parts)


@given(told=PRESSURES)
def test_every_blood_pressure_comes_back(told: dict[str, Any]) -> None:
    found = decode("2A35", encode_pressure(told))
    pressures = tuple(found[name] for name in ("systolic", "diastolic", "mean"))
    assert pressures == told["pressures"]
    assert found["unit"] == ("kPa" if told["kpa"] else "mmHg")
    assert found.get("stamp") == ("2024-03-01T08:00:00" if told["stamp"] else None)
    assert found.get("pulse") == told["pulse"]
    assert found.get("user") == ("unknown" if told["user"] == 255 else told["user"])
    if told["status"] is None:
        assert "status" not in found
    else:
        bits = told["status"]
        assert found["status"] == {
            "body-movement": bool(bits & 1),
            "cuff-loose": bool(bits & 2),
            "irregular-pulse": bool(bits & 4),
            "pulse-over-range": bits & 24 == 8,
            "pulse-under-range": bits & 24 == 16,
            "wrong-position": bool(bits & 32),
        }


@given(told=PRESSURES, data=st.data())
def test_a_blood_pressure_cut_short_is_refused(told: dict[str, Any], data: Any) -> None:
    whole = encode_pressure(told)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InvalidOctetsError):
        decode("2A35", whole[:length])


@given(told=PRESSURES, other=st.integers(0, 7))
def test_a_reserved_flag_changes_nothing(told: dict[str, Any], other: int) -> None:
    assert decode("2A35", encode_pressure(told)) == decode(
        "2A35", encode_pressure({**told, "reserved": other})
    )


@given(number=st.sampled_from(CHARACTERISTICS), octets=st.binary(max_size=40))
def test_any_bytes_are_a_measurement_or_refused(number: str, octets: bytes) -> None:
    with suppress(InvalidOctetsError):
        assert isinstance(decode(number, octets), dict)


GLUCOSE = st.fixed_dictionaries(
    {
        "sequence": st.integers(0, 0xFFFF),
        "offset": st.none() | st.integers(-1440, 1440),
        "mantissa": st.integers(1, 2000),
        "moles": st.booleans(),
        "status": st.none() | st.integers(0, 0xFFFF),
    }
)


def encode_glucose(told: dict[str, Any]) -> bytes:
    flags = (
        (told["offset"] is not None) | 2 | told["moles"] << 2 | (told["status"] is not None) << 3
    )
    parts = [bytes([flags]), told["sequence"].to_bytes(2, "little"), STAMP]
    if told["offset"] is not None:
        parts.append(told["offset"].to_bytes(2, "little", signed=True))
    parts += [sfloat(told["mantissa"], -5), b"\x11"]
    if told["status"] is not None:
        parts.append(told["status"].to_bytes(2, "little"))
    return b"".join(parts)


@given(told=GLUCOSE)
def test_every_glucose_comes_back_in_the_unit_it_was_measured_in(told: dict[str, Any]) -> None:
    found = decode("2A18", encode_glucose(told))
    assert found["sequence"] == told["sequence"]
    if told["moles"]:
        assert (found["glucose"], found["unit"]) == (Decimal(told["mantissa"]) / 100, "mmol/L")
    else:
        assert (found["glucose"], found["unit"]) == (told["mantissa"], "mg/dL")
    assert found["sample"] == "capillary"
    status = told["status"] or 0
    assert found.get("time-fault", False) == bool(status & 1 << 11)
    too_high, too_low = bool(status & 1 << 5), bool(status & 1 << 6)
    wanted = {(True, False): ">", (False, True): "<"}.get((too_high, too_low))
    assert found.get("comparator") == wanted


@pytest.mark.parametrize(
    ("offset", "stamp"),
    [(30, "2024-03-01T08:30:00"), (-600, "2024-02-29T22:00:00"), (None, "2024-03-01T08:00:00")],
)
def test_the_time_offset_is_part_of_the_users_time(offset: int | None, stamp: str) -> None:
    told = {"sequence": 1, "offset": offset, "mantissa": 95, "moles": False, "status": None}
    assert decode("2A18", encode_glucose(told))["stamp"] == stamp


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("11", "capillary"),
        ("17", "capillary"),
        ("F7", "undetermined"),
        ("13", "venous"),
        ("19", "interstitial"),
        ("1A", "control-solution"),
        ("41", "control-solution"),
    ],
)
def test_a_sample_is_named_by_fluid_and_place(sample: str, said: str) -> None:
    found = decode("2A18", bytes.fromhex("020100" + STAMP.hex() + "5FB0" + sample))
    assert found["sample"] == said


def test_a_context_is_of_the_measurement_with_its_number() -> None:
    glucose = bytes.fromhex("120500" + STAMP.hex() + "5FB011")
    assert decode("2A18", glucose, bytes.fromhex("02050003"))["meal"] == "fasting"
    with pytest.raises(InvalidOctetsError, match="another measurement"):
        decode("2A18", glucose, bytes.fromhex("02060003"))


def test_the_meal_is_found_behind_every_other_field_of_a_context() -> None:
    glucose = bytes.fromhex("120500" + STAMP.hex() + "5FB011")
    context = bytes.fromhex("FF0500" + "00" + "011020" + "02" + "11" + "3C0050" + "015FB0" + "07F0")
    assert decode("2A18", glucose, context)["meal"] == "after-meal"


def test_a_heart_rate_has_eight_bits_or_sixteen() -> None:
    assert decode("2A37", bytes.fromhex("0048"))["pulse"] == 72
    assert decode("2A37", bytes.fromhex("012C01"))["pulse"] == 300


def test_intervals_between_beats_come_after_the_energy_spent() -> None:
    found = decode("2A37", bytes.fromhex("18" + "48" + "0A00" + "00040002"))
    assert found["rr"] == [1000, 500]


@pytest.mark.parametrize(
    ("flags", "lost"), [("00", False), ("02", False), ("04", True), ("06", False)]
)
def test_only_a_sensor_that_can_tell_says_that_it_does_not_touch(flags: str, lost: bool) -> None:
    assert decode("2A37", bytes.fromhex(flags + "48"))["no-contact"] is lost


def test_a_weight_has_the_steps_of_its_unit() -> None:
    assert str(decode("2A9D", bytes.fromhex("00303A"))["weight"]) == "74.480"
    pounds = decode("2A9D", bytes.fromhex("01CC42"))
    assert (str(pounds["weight"]), pounds["unit"]) == ("171.00", "lb")
    assert decode("2A9D", bytes.fromhex("00FFFF"))["weight"] == "unsuccessful"


def test_an_oximeters_clock_that_was_not_set_is_a_time_fault() -> None:
    found = decode("2A5E", bytes.fromhex("11" + "62004800" + STAMP.hex()))
    assert found["time-fault"] is True
    assert "stamp" not in found


def test_continuous_glucose_reads_only_the_octets_of_status_that_are_there() -> None:
    found = decode("2AA7", bytes.fromhex("07" + "20" + "2800" + "1400" + "40"))
    assert (found["comparator"], found["status"]["calibration-required"]) == ("<", False)
    found = decode("2AA7", bytes.fromhex("07" + "40" + "7800" + "1400" + "08"))
    assert found["status"]["calibration-required"] is True


def test_a_continuous_glucose_of_another_length_than_it_says_is_refused() -> None:
    with pytest.raises(InvalidOctetsError):
        decode("2AA7", bytes.fromhex("060078000F00060078001400"))


def test_a_clock_is_read_from_the_first_seven_bytes() -> None:
    assert decode_date_time(bytes.fromhex("E80703010800000501FF")) == "2024-03-01T08:00:00"
