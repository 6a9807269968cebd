"""A Period is out of order only where its start is surely after its end."""

from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.validation.period import is_in_order

ZONES = st.integers(-12 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
MOMENTS = st.datetimes(timezones=ZONES).filter(lambda when: 1900 < when.year < 2100)


@given(start=MOMENTS, end=MOMENTS)
def test_exact_times_are_compared_across_zones(start, end):
    period = {"start": start.isoformat(), "end": end.isoformat()}

    assert is_in_order(period) == (start <= end)


@given(when=MOMENTS, zone=ZONES)
def test_a_day_and_a_time_in_it_are_in_order_whatever_the_zone(when, zone):
    day = when.astimezone(zone).date().isoformat()
    exact = when.astimezone(UTC).isoformat()

    for precision in (10, 7, 4):
        assert is_in_order({"start": day[:precision], "end": exact})
        assert is_in_order({"start": exact, "end": day[:precision]})


@pytest.mark.parametrize(
    ("start", "end", "is_right"),
    [
        ("2024", "2024-01", True),
        ("2024-02", "2024", True),
        ("2025", "2024-12", False),
        ("2024-01-02", "2024-01-01", False),
        ("2024-01-03", "2024-01-01T00:00:00Z", False),
        ("2024-03-05T00:00:00Z", "2024-01", False),
        ("2024-01-01T00:00:00.50Z", "2024-01-01T00:00:00.5Z", True),
        ("2024-01-01T00:00:00.500001Z", "2024-01-01T00:00:00.5Z", False),
        ("2024-01-01T00:00:00.0000000002Z", "2024-01-01T00:00:00.0000000001Z", False),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z", True),
        ("nonsense", "2024", True),
    ],
)
def test_partial_dates_that_overlap_are_in_order(start, end, is_right):
    assert is_in_order({"start": start, "end": end}) is is_right


@pytest.mark.parametrize("value", [None, "x", {}, {"start": "2024"}, {"start": 1, "end": 0}])
def test_what_is_no_full_period_is_another_fault(value):
    assert is_in_order(value)
