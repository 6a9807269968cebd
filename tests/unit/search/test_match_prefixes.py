"""Prefixes agree with each other, whatever the numbers and dates."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.compare import entry_matches
from fhir_server.core.search.entry import GREATEST, LEAST, DateEntry, NumberEntry
from fhir_server.core.search.query import (
    DateValue,
    NumberValue,
    Prefix,
)

numbers = st.decimals(-20, 20, places=1)


precise = st.integers(-20, 20).map(Decimal)


def _number(prefix: Prefix, value: Decimal) -> NumberValue:
    return NumberValue(prefix, value, value - Decimal("0.5"), value + Decimal("0.5"))


@given(numbers, numbers, precise)
def test_number_prefixes_are_consistent(a: Decimal, b: Decimal, value: Decimal) -> None:
    for entry in (
        NumberEntry("x", min(a, b), max(a, b)),
        NumberEntry("x", a, a),
        NumberEntry("x", LEAST, a),
        NumberEntry("x", a, GREATEST),
    ):
        found = {p: entry_matches(entry, "", _number(p, value)) for p in Prefix}
        assert found[Prefix.EQ] is not found[Prefix.NE]
        assert found[Prefix.GE] or found[Prefix.LT]
        assert found[Prefix.LE] or found[Prefix.GT]
        assert not (found[Prefix.SA] and found[Prefix.EB])
        assert found[Prefix.SA] <= found[Prefix.GT] <= found[Prefix.GE]
        assert found[Prefix.EB] <= found[Prefix.LT] <= found[Prefix.LE]
        if entry.low == entry.high:
            assert found[Prefix.GT] is (entry.low > value)
            assert found[Prefix.GE] is (entry.low >= value)
            assert found[Prefix.LT] is (entry.low < value)


ranges = st.tuples(st.integers(0, 20), st.integers(1, 5)).map(lambda t: DateRange(t[0], sum(t)))


@given(ranges, ranges)
def test_date_prefixes_are_consistent(stored: DateRange, asked: DateRange) -> None:
    found = {p: entry_matches(DateEntry("x", stored), "", DateValue(p, asked)) for p in Prefix}
    moments = set(range(*stored))
    inside = moments <= set(range(*asked))
    assert found[Prefix.EQ] is inside
    assert found[Prefix.NE] is not inside
    assert found[Prefix.GT] is any(m >= asked.end for m in moments)
    assert found[Prefix.LT] is any(m < asked.start for m in moments)
    assert found[Prefix.GE] is (found[Prefix.GT] or inside)
    assert found[Prefix.LE] is (found[Prefix.LT] or inside)
    assert found[Prefix.SA] is all(m >= asked.end for m in moments)
    assert found[Prefix.EB] is all(m < asked.start for m in moments)
    assert found[Prefix.AP] is any(asked.start <= m < asked.end for m in moments)
