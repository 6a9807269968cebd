"""Numbers stay exact; conversions round to what the device could tell apart."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.mapping.knowledge import Conversion
from fhir_server.core.mapping.normalize import InvalidValueError, convert, parse_number, word

KPA = Conversion("kPa", "mm[Hg]", Decimal("7.50062"))
POUND = Conversion("[lb_av]", "kg", Decimal("0.45359237"))
FAHRENHEIT = Conversion("[degF]", "Cel", Decimal(5), Decimal(9), Decimal(32))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (120, "120"),
        (Decimal("2.0"), "2.0"),
        (Decimal("77.5643875134944"), "77.5643875134944"),
        ("5.60", "5.60"),
        (" 5.6 ", "5.6"),
        (Decimal("1E+2"), "100"),
        (0.1, "0.1"),
        (Decimal("-0.5"), "-0.5"),
    ],
)
def test_the_digits_that_were_sent_are_kept(raw: Any, text: str) -> None:
    assert str(parse_number(raw)) == text


@pytest.mark.parametrize(
    "raw",
    [
        True,
        None,
        [],
        {},
        "",
        "x",
        "1,5",
        "1_0",
        "NaN",
        "Infinity",
        Decimal("NaN"),
        10**30,
        Decimal("1E+999999"),
        Decimal("1E-999999"),
        "9" * 60,
        float("inf"),
        "٣",
    ],
)
def test_what_is_no_sensible_number_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidValueError):
        parse_number(raw)


@pytest.mark.parametrize(
    ("value", "conversion", "text"),
    [
        ("16.0", KPA, "120.0"),
        ("16", KPA, "120"),
        ("10.7", KPA, "80.3"),
        ("171.0", POUND, "77.56"),
        ("171", POUND, "77.6"),
        ("98.6", FAHRENHEIT, "37.00"),
    ],
)
def test_a_converted_value_keeps_the_devices_step(
    value: str, conversion: Conversion, text: str
) -> None:
    assert str(convert(Decimal(value), conversion)) == text


@given(st.decimals(0, 40, places=1), st.decimals(0, 40, places=1))
def test_two_values_a_device_can_tell_apart_stay_apart(a: Decimal, b: Decimal) -> None:
    if a != b:
        assert convert(a, KPA) != convert(b, KPA)


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    )
)
def test_a_number_is_never_changed_by_reading_it(number: Decimal) -> None:
    assert parse_number(number) == number
    assert parse_number(str(number)) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (Decimal("0.0"), "0"), ("0", "0"), (True, "true"), (None, ""), ("x", "x")],
)
def test_a_tables_key_is_the_json_values_plain_spelling(value: Any, text: str) -> None:
    assert word(value) == text
