"""Dates as ranges: precision, time zones, the edges of the calendar."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import date_range
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange

MOSCOW = date_range.load_zone("Europe/Moscow")
BERLIN = date_range.load_zone("Europe/Berlin")
SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


def at(text: str) -> int:
    return date_range.from_datetime(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", "2024-01-01T00:00+03:00", "2025-01-01T00:00+03:00"),
        ("2024-02", "2024-02-01T00:00+03:00", "2024-03-01T00:00+03:00"),
        ("2023-12", "2023-12-01T00:00+03:00", "2024-01-01T00:00+03:00"),
        ("2024-02-29", "2024-02-29T00:00+03:00", "2024-03-01T00:00+03:00"),
        ("2024-12-31", "2024-12-31T00:00+03:00", "2025-01-01T00:00+03:00"),
        ("2024-03-01T10:20", "2024-03-01T10:20+03:00", "2024-03-01T10:21+03:00"),
        ("2024-03-01T10:20:00", "2024-03-01T10:20:00+03:00", "2024-03-01T10:20:01+03:00"),
        ("2024-03-01T10:20:00Z", "2024-03-01T10:20:00+00:00", "2024-03-01T10:20:01+00:00"),
        (
            "2024-03-01T10:20:00.5-05:00",
            "2024-03-01T10:20:00.5-05:00",
            "2024-03-01T10:20:00.6-05:00",
        ),
    ],
)
def test_a_date_covers_what_its_precision_leaves_open(text: str, start: str, end: str) -> None:
    assert date_range.parse(text, MOSCOW) == DateRange(at(start), at(end))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20240301",
        "2024-3-1",
        "2024-00",
        "2024-13",
        "2023-02-29",
        "2024-02-30",
        "0000",
        "2024-W01",
        "2024-03-01Z",
        "2024-03-01T10",
        "2024-03-01T24:00",
        "2024-03-01T10:60",
        "2024-03-01T10:00:61Z",
        "2024-03-01T10:00:00+15:00",
        "2024-03-01 10:00",
        "2024-03-01T10:00:00.Z",
        "2024-03-01\n",
        "٢٠٢٤",
    ],
)
def test_what_is_no_fhir_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        date_range.parse(text, MOSCOW)


def test_sub_microsecond_digits_are_cut() -> None:
    found = date_range.parse("2024-03-01T10:00:00.1234567Z", MOSCOW)
    assert found == DateRange(at("2024-03-01T10:00:00.123456+00:00"), found.start + 1)


def test_a_leap_second_is_the_next_minutes_first() -> None:
    leap = date_range.parse("2016-12-31T23:59:60Z", MOSCOW)
    assert leap == date_range.parse("2017-01-01T00:00:00Z", MOSCOW)
    assert date_range.parse("2017-01-01T02:59:60", MOSCOW) == leap


def test_the_day_of_the_change_to_summer_time_has_23_hours() -> None:
    day = date_range.parse("2024-03-31", BERLIN)
    assert day.end - day.start == 23 * HOUR


def test_the_day_of_the_change_from_summer_time_has_25_hours() -> None:
    day = date_range.parse("2024-10-27", BERLIN)
    assert day.end - day.start == 25 * HOUR


def test_a_wall_clock_time_that_comes_twice_covers_both() -> None:
    found = date_range.parse("2024-10-27T02:30:00", BERLIN)
    assert found.start == at("2024-10-27T02:30:00+02:00")
    assert found.end == at("2024-10-27T02:30:01+01:00")


def test_a_skipped_wall_clock_time_is_read_with_the_offset_of_before() -> None:
    found = date_range.parse("2024-03-31T02:30:00", BERLIN)
    assert found.start == at("2024-03-31T02:30:00+01:00")
    assert found.end == found.start + SECOND


def test_a_midnight_that_is_skipped_is_the_moment_of_the_change() -> None:
    cairo = date_range.load_zone("Africa/Cairo")
    day = date_range.parse("2024-04-26", cairo)
    assert day.start == at("2024-04-26T01:00+03:00")
    assert date_range.parse("2024-04-25", cairo).end == day.start


@pytest.mark.parametrize("text", ["0001", "0001-01-01", "9999", "9999-12", "9999-12-31"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"])
def test_the_first_and_the_last_year_have_their_ranges(text: str, zone: str) -> None:
    found = date_range.parse(text, date_range.load_zone(zone))
    assert found.end - found.start >= DAY - HOUR


@given(st.dates(date(1, 1, 2), date(9998, 1, 1)))
def test_days_follow_each_other_without_a_gap(day: date) -> None:
    for zone in (BERLIN, MOSCOW):
        today = date_range.parse(day.isoformat(), zone)
        tomorrow = date_range.parse((day + timedelta(days=1)).isoformat(), zone)
        assert today.end == tomorrow.start
        month = date_range.parse(day.isoformat()[:7], zone)
        assert month.contains(today)
        assert date_range.parse(day.isoformat()[:4], zone).contains(month)


@given(
    st.datetimes(timezones=st.timezones()).filter(lambda d: d.utcoffset() is not None),
)
def test_a_stamp_with_an_offset_is_the_same_moment_everywhere(when: datetime) -> None:
    offset = when.utcoffset() or timedelta()
    if offset % timedelta(minutes=1) or abs(offset) > timedelta(hours=14):
        return
    found = date_range.parse(when.replace(fold=0).isoformat(timespec="microseconds"), MOSCOW)
    fixed = datetime.fromisoformat(when.replace(fold=0).isoformat(timespec="microseconds"))
    assert found == DateRange(date_range.from_datetime(fixed), found.start + 1)


def test_a_period_reaches_from_its_first_moment_to_its_last() -> None:
    found = date_range.of_period({"start": "2024-03-01", "end": "2024-03"}, MOSCOW)
    assert found == date_range.parse("2024-03", MOSCOW)


def test_an_open_period_reaches_to_the_end_of_time() -> None:
    start, end = date_range.parse("2024-03-01", MOSCOW)
    assert date_range.of_period({"start": "2024-03-01"}, MOSCOW) == DateRange(start, LATEST)
    assert date_range.of_period({"end": "2024-03-01"}, MOSCOW) == DateRange(EARLIEST, end)
    assert date_range.of_period({}, MOSCOW) is None


def test_a_period_that_ends_before_it_starts_covers_both() -> None:
    found = date_range.of_period({"start": "2024-03-02", "end": "2024-03-01"}, MOSCOW)
    assert found is not None
    assert found.contains(date_range.parse("2024-03-02", MOSCOW))
    assert found.contains(date_range.parse("2024-03-01", MOSCOW))


def test_a_timing_covers_its_events_and_bounds() -> None:
    timing = {
        "event": ["2024-03-05", None, "2024-03-01"],
        "repeat": {"boundsPeriod": {"start": "2024-03-02", "end": "2024-03-09"}},
    }
    found = date_range.of_timing(timing, MOSCOW)
    assert found == date_range.of_period({"start": "2024-03-01", "end": "2024-03-09"}, MOSCOW)
    assert date_range.of_timing({"repeat": {"frequency": 1}}, MOSCOW) is None


def test_approximately_widens_by_a_tenth_of_the_distance_from_now() -> None:
    now = datetime(2024, 3, 11, tzinfo=UTC)
    past = DateRange(at("2024-03-01T00:00+00:00"), at("2024-03-01T00:00+00:00") + SECOND)
    widened = date_range.approximate(past, now)
    assert widened.start == past.start - (10 * DAY - SECOND) // 10
    assert widened.end == past.end + (10 * DAY - SECOND) // 10
    present = DateRange(past.start, at("2024-04-01T00:00+00:00"))
    assert date_range.approximate(present, now) == present


def test_an_unknown_time_zone_is_refused() -> None:
    for name in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(ValueError, match="time zone"):
            date_range.load_zone(name)


def test_a_moment_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        date_range.from_datetime(datetime(2024, 1, 1))  # noqa: DTZ001
