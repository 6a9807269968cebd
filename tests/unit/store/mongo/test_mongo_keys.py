"""Index keys sort as what they stand for, and no two values share one."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.date_range import EARLIEST, LATEST
from fhir_server.store.mongo import keys

decimals = st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(
    min_value=-1000, max_value=1000, places=2
)
# Separator and escape as often as all else, the ends of the range of characters too.
texts = st.text(st.sampled_from("ab\x1b\x1e\x1f \ud7ff\ue000\U0010ffff")) | st.text()


@given(decimals, decimals)
def test_decimals_sort_as_numbers(a, b):
    assert (a < b) == (keys.ordered(a) < keys.ordered(b))
    assert (a == b) == (keys.ordered(a) == keys.ordered(b))


@pytest.mark.parametrize(
    ("less", "more"),
    [("-10", "-9.99"), ("-1.23", "-1.2"), ("-0.1", "0"), ("0", "1E-30"), ("9.99", "10")],
)
def test_decimals_sort_across_signs_and_magnitudes(less, more):
    assert keys.ordered(Decimal(less)) < keys.ordered(Decimal(more))


def test_trailing_zeros_make_no_other_number():
    assert keys.ordered(Decimal("79.50")) == keys.ordered(Decimal("79.5"))
    assert keys.ordered(Decimal("0.00")) == keys.ordered(Decimal("-0"))


@given(st.integers(EARLIEST, LATEST), st.integers(EARLIEST, LATEST))
def test_dates_sort_as_moments(a, b):
    assert (a < b) == (keys.date("d", a) < keys.date("d", b))


@given(texts, texts, texts, texts)
def test_two_pairs_share_a_key_only_if_they_are_equal(a, b, c, d):
    assert (keys.pair("p", a, b) == keys.pair("p", c, d)) == ((a, b) == (c, d))


@given(texts, texts)
def test_bounds_of_a_prefix_hold_what_starts_with_it_and_nothing_else(prefix, text):
    bounds = keys.starting_with(prefix)
    # MongoDB compares strings by their bytes.
    stored = text.encode()
    within = stored >= bounds["$gte"].encode() and (
        "$lt" not in bounds or stored < bounds["$lt"].encode()
    )
    assert within == text.startswith(prefix)


@given(texts, texts)
def test_a_parameter_keeps_its_keys_to_itself(value, qualifier):
    bounds = keys.all_of("code")
    assert bounds["$gte"] <= keys.pair("code", value, qualifier) < bounds["$lt"]
    assert not bounds["$gte"] <= keys.pair("code-x", value, qualifier) < bounds["$lt"]
    assert not bounds["$gte"] <= keys.date("code" + keys.WIDE, 0) < bounds["$lt"]
