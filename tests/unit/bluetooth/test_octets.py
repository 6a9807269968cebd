"""IEEE 11073's floats and date-times, against an encoder that knows only the standard."""

from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.bluetooth.octets import InvalidOctetsError, Octets


def sfloat(mantissa: int, exponent: int) -> bytes:
    return ((exponent & 0xF) << 12 | mantissa & 0xFFF).to_bytes(2, "little")


def float32(mantissa: int, exponent: int) -> bytes:
    return ((exponent & 0xFF) << 24 | mantissa & 0xFFFFFF).to_bytes(4, "little")


@given(mantissa=st.integers(-2045, 2045), exponent=st.integers(-8, 7))
def test_every_sfloat_comes_back_with_its_precision(mantissa: int, exponent: int) -> None:
    found = Octets(sfloat(mantissa, exponent)).sfloat()
    assert isinstance(found, Decimal)
    assert found == Decimal(mantissa).scaleb(exponent)
    assert found.as_tuple().exponent == exponent


@given(mantissa=st.integers(-(2**23) + 3, 2**23 - 3), exponent=st.integers(-128, 127))
def test_every_float_comes_back_with_its_precision(mantissa: int, exponent: int) -> None:
    found = Octets(float32(mantissa, exponent)).float32()
    assert isinstance(found, Decimal)
    assert found == Decimal(mantissa).scaleb(exponent)
    assert found.as_tuple().exponent == exponent


def test_a_two_with_one_decimal_stays_two_point_zero() -> None:
    assert str(Octets(sfloat(20, -1)).sfloat()) == "2.0"


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (0x07FF, "NaN"),
        (0x0800, "NRes"),
        (0x07FE, "+INFINITY"),
        (0x0802, "-INFINITY"),
        (0x0801, "reserved"),
    ],
)
def test_a_special_sfloat_is_a_word_and_never_a_number(raw: int, word: str) -> None:
    assert Octets(raw.to_bytes(2, "little")).sfloat() == word


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (0x007FFFFF, "NaN"),
        (0x00800000, "NRes"),
        (0x007FFFFE, "+INFINITY"),
        (0x00800002, "-INFINITY"),
        (0x00800001, "reserved"),
    ],
)
def test_a_special_float_is_a_word_and_never_a_number(raw: int, word: str) -> None:
    assert Octets(raw.to_bytes(4, "little")).float32() == word


@given(mantissa=st.sampled_from([2047, 2046, -2048, -2047, -2046]), exponent=st.integers(1, 7))
def test_a_special_mantissa_with_an_exponent_is_no_number_either(
    mantissa: int, exponent: int
) -> None:
    assert Octets(sfloat(mantissa, exponent)).sfloat() == "reserved"


@given(when=st.datetimes(datetime(1582, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001
def test_every_date_and_time_comes_back(when: datetime) -> None:
    octets = when.year.to_bytes(2, "little") + bytes(
        [when.month, when.day, when.hour, when.minute, when.second]
    )
    assert Octets(octets).date_time() == when.replace(microsecond=0)


@pytest.mark.parametrize("octets", ["00000301080000", "E8070001080000", "E8070300080000"])
def test_a_date_of_which_a_part_is_not_known_is_none(octets: str) -> None:
    assert Octets(bytes.fromhex(octets)).date_time() is None


@pytest.mark.parametrize("octets", ["E8070D01080000", "E807021F080000", "E8070301180000"])
def test_a_date_that_does_not_exist_is_refused(octets: str) -> None:
    with pytest.raises(InvalidOctetsError):
        Octets(bytes.fromhex(octets)).date_time()
