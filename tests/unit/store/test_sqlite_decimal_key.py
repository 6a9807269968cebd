"""Keys of decimals sort as the decimals do."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.search.entry import GREATEST, LEAST
from fhir_server.store.sqlite.decimal_key import decimal_key

DECIMALS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-100, max_value=100, places=3),
    st.sampled_from([LEAST, GREATEST, Decimal("-0.0"), Decimal("1E+300"), Decimal("1E-300")]),
)


@given(DECIMALS, DECIMALS)
def test_keys_compare_as_decimals_do(left, right):
    a, b = decimal_key(left), decimal_key(right)
    assert (a < b, a == b, a > b) == (left < right, left == right, left > right)


@given(DECIMALS, st.integers(0, 5))
def test_a_digit_more_is_told_apart(value, places):
    sign, digits, exponent = value.as_tuple()
    longer = Decimal((sign, (*digits, 1), exponent - 1))
    shorter = Decimal((sign, (*digits, *[0] * places), exponent - places))
    assert decimal_key(shorter) == decimal_key(value)
    assert (decimal_key(longer) > decimal_key(value)) == (longer > value)
    assert decimal_key(longer) != decimal_key(value)


@pytest.mark.parametrize("value", ["120", "79.5", "4.25"])
def test_usual_readings_are_short(value):
    assert len(decimal_key(Decimal(value))) <= 4


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_has_no_key(value):
    with pytest.raises(ValueError, match="finite"):
        decimal_key(Decimal(value))
