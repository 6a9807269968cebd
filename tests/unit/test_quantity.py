"""UCUM units in canonical terms."""

from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.quantity import Unit, parse_unit


def unit(code: str) -> Unit:
    found = parse_unit(code)
    assert found is not None, code
    return found


@pytest.mark.parametrize(
    ("value", "code", "other", "other_code"),
    [
        ("1", "g", "1000", "mg"),
        ("1", "kg", "1000000", "mg"),
        ("1", "mg/dL", "0.01", "g/L"),
        ("1", "mmol/L", "1000", "umol/L"),
        ("60", "/min", "1", "Hz"),
        ("60", "{beats}/min", "60", "/min"),
        ("1", "kPa", "10", "hPa"),
        ("120", "mm[Hg]", "120", "mm[Hg]{systolic}"),
        ("1", "[lb_av]", "453.59237", "g"),
        ("16", "[oz_av]", "1", "[lb_av]"),
        ("1", "[in_i]", "2.54", "cm"),
        ("37", "Cel", "310.15", "K"),
        ("5", "10*9/L", "5000", "10*6/L"),
        ("5", "10*3/uL", "5", "10*9/L"),
        ("1", "L", "1000", "mL"),
        ("1", "l", "1", "dm3"),
        ("50", "%", "0.5", "1"),
        ("3", "{steps}", "3", "1"),
        ("1", "h", "3600", "s"),
        ("1", "wk", "7", "d"),
        ("1", "N", "1", "kg.m/s2"),
        ("1", "(mg/dL).L", "10", "mg"),
        ("1", "mL/min/{1.73_m2}", "1", "mL/min"),
        ("1", "[iU]/L", "1000", "m[iU]/L"),
        ("1", "[IU]", "1", "[iU]"),
        ("1", "24.h", "1", "d"),
        ("1", "Ohm", "1", "V/A"),
        ("1", "KiBy", "1024", "By"),
    ],
)
def test_equal_amounts_are_equal(value: str, code: str, other: str, other_code: str) -> None:
    left, right = unit(code), unit(other_code)
    assert left.code == right.code
    assert left.canonical(Decimal(value)) == right.canonical(Decimal(other))


def test_fahrenheit_and_celsius_agree_to_many_digits() -> None:
    fahrenheit = unit("[degF]").canonical(Decimal("98.6"))
    assert abs(fahrenheit - unit("Cel").canonical(Decimal("37.0"))) < Decimal("1e-30")


@pytest.mark.parametrize(
    ("code", "other"),
    [("g", "mol"), ("mg/dL", "mmol/L"), ("mm[Hg]", "Cel"), ("[iU]", "[arb'U]"), ("m", "m2")],
)
def test_different_kinds_do_not_compare(code: str, other: str) -> None:
    assert unit(code).code != unit(other).code


@pytest.mark.parametrize(
    "code",
    [
        "", " ", ".", "/", "mg/", "mg..dL", "mg//dL", "(mg", "mg)", "()", "mg dL", "mmHg", "bpm",
        "mg/dl}", "{", "{a", "x", "k", "mmin", "m%", "kCel", "Cel/min", "0", "0.5g", "m999", "dB",
        "[unknown]", "ммоль", "mg\x00", "g" * 500, "10*40.10*40" * 9, "(" * 150,
    ],
)  # fmt: skip
def test_what_ucum_does_not_know_has_no_canonical_form(code: str) -> None:
    assert parse_unit(code) is None


def test_decimals_stay_exact() -> None:
    assert unit("mg").canonical(Decimal("79.50")) == Decimal("0.0795")
    assert unit("g").canonical(Decimal("0.1")) == Decimal("0.1")


def test_absurd_numbers_do_not_raise() -> None:
    assert unit("kg").canonical(Decimal("1E+999999")) > 0


CODES = ["mg", "kPa", "mm[Hg]", "[lb_av]", "mmol/L", "Cel", "[degF]", "10*3/uL", "%", "a_j"]


@given(
    st.sampled_from(CODES),
    st.decimals(-10_000, 10_000, places=4),
    st.decimals(-10_000, 10_000, places=4),
)
def test_canonical_values_keep_their_order(code: str, a: Decimal, b: Decimal) -> None:
    found = unit(code)
    assert (a < b) == (found.canonical(a) < found.canonical(b))


@given(st.text(max_size=30))
def test_any_text_is_a_unit_or_none(code: str) -> None:
    parse_unit(code)


@given(st.text(alphabet="mgkL/.(){}[]10*-2dHaPs%", max_size=20))
def test_anything_like_a_unit_is_one_or_none(code: str) -> None:
    found = parse_unit(code)
    assert found is None or found.code


def test_dividing_undoes_multiplying() -> None:
    for a, b in product(["mg", "kPa", "[in_i]", "mol"], repeat=2):
        assert unit(f"{a}.{b}/{b}").code == unit(a).code
        assert unit(f"{a}.{b}/{b}").canonical(Decimal(7)) == unit(a).canonical(Decimal(7))
