"""Schedules: which windows a FHIR Timing asks for."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import date_range
from fhir_server.core.date_range import LATEST, DateRange
from fhir_server.core.monitoring import schedule
from fhir_server.core.monitoring.schedule import Schedule

MOSCOW, BERLIN = ZoneInfo("Europe/Moscow"), ZoneInfo("Europe/Berlin")
DAY = 86_400_000_000


def instant(text: str, zone: ZoneInfo = MOSCOW) -> int:
    return date_range.parse(text, zone).start


def planned(
    repeat: dict[str, Any], start: str = "2026-03-02", zone: ZoneInfo = MOSCOW, end: str = ""
) -> Schedule:
    bounds = DateRange(instant(start, zone), instant(end, zone) if end else LATEST)
    found = schedule.parse({"repeat": repeat}, bounds, zone)
    assert found is not None
    return found


def told(found: Schedule, since: str, until: str, zone: ZoneInfo = MOSCOW) -> list[str]:
    """Each window as local text: start, end, how many."""

    def local(moment: int) -> str:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)
        return f"{when.astimezone(zone):%d %H:%M}"

    windows = found.windows(instant(since, zone), instant(until, zone))
    return [f"{local(w.start)} - {local(w.end)} x{w.needed}" for w in windows]


def test_so_many_a_day_is_asked_for_in_the_whole_day() -> None:
    found = planned({"frequency": 3, "period": 1, "periodUnit": "d"})
    assert told(found, "2026-03-02", "2026-03-04") == [
        "02 00:00 - 03 00:00 x3",
        "03 00:00 - 04 00:00 x3",
    ]


def test_the_times_of_a_day_share_what_is_asked_for() -> None:
    found = planned({"frequency": 4, "period": 1, "periodUnit": "d", "when": ["MORN", "EVE"]})
    assert told(found, "2026-03-02", "2026-03-03") == [
        "02 04:00 - 02 12:00 x2",
        "02 17:00 - 03 00:00 x2",
    ]


def test_a_measurement_is_in_time_around_its_time_of_day() -> None:
    found = planned({"timeOfDay": ["08:00:00", "09:00:00", "20:00:00"]})
    assert told(found, "2026-03-03", "2026-03-04") == [
        "03 06:00 - 03 08:30 x1",
        "03 08:30 - 03 11:00 x1",
        "03 18:00 - 03 22:00 x1",
    ]


def test_an_offset_moves_away_from_the_meal() -> None:
    after = planned({"period": 1, "periodUnit": "d", "when": ["PCM"], "offset": 60})
    before = planned({"period": 1, "periodUnit": "d", "when": ["ACM"], "offset": 60})
    assert told(after, "2026-03-02", "2026-03-03") == ["02 06:00 - 02 12:00 x1"]
    assert told(before, "2026-03-02", "2026-03-03") == ["02 04:00 - 02 10:00 x1"]


def test_each_meal_is_three() -> None:
    found = planned({"period": 1, "periodUnit": "d", "when": ["PC"], "offset": 60})
    assert len(told(found, "2026-03-02", "2026-03-03")) == 3


def test_days_of_the_week() -> None:
    found = planned({"dayOfWeek": ["mon", "thu"], "timeOfDay": ["12:00:00"]})
    assert told(found, "2026-03-02", "2026-03-09") == [
        "02 10:00 - 02 14:00 x1",
        "05 10:00 - 05 14:00 x1",
    ]


def test_days_of_each_second_week_share_what_is_asked_for() -> None:
    repeat = {"frequency": 3, "period": 2, "periodUnit": "wk", "dayOfWeek": ["tue", "fri"]}
    expected = ["03 00:00 - 04 00:00 x2", "06 00:00 - 07 00:00 x1"]
    later = ["17 00:00 - 18 00:00 x2", "20 00:00 - 21 00:00 x1"]
    found = planned(repeat)
    assert told(found, "2026-03-02", "2026-03-30") == expected + later
    assert told(found, "2026-03-19", "2026-03-30") == later[1:]


def test_so_many_a_week_and_a_month_are_counted_from_the_start() -> None:
    weekly = planned({"frequency": 2, "period": 1, "periodUnit": "wk"}, "2026-03-04")
    assert told(weekly, "2026-03-12", "2026-03-13") == ["11 00:00 - 18 00:00 x2"]
    monthly = planned({"period": 1, "periodUnit": "mo"}, "2026-01-31")
    assert told(monthly, "2026-02-10", "2026-03-31") == [
        "31 00:00 - 28 00:00 x1",
        "28 00:00 - 31 00:00 x1",
    ]


def test_hours_are_counted_from_the_moment_the_plan_starts() -> None:
    found = planned({"period": 6, "periodUnit": "h"}, "2026-03-02T09:30:00+03:00")
    assert told(found, "2026-03-02T16:00:00+03:00", "2026-03-02T22:00:00+03:00") == [
        "02 15:30 - 02 21:30 x1",
        "02 21:30 - 03 03:30 x1",
    ]


def test_a_window_partly_outside_of_the_bounds_asks_for_nothing() -> None:
    found = planned(
        {"period": 1, "periodUnit": "d", "when": ["MORN", "EVE"]},
        "2026-03-02T10:00:00+03:00",
        end="2026-03-03T20:00:00+03:00",
    )
    assert told(found, "2026-03-01", "2026-03-09") == [
        "02 17:00 - 03 00:00 x1",
        "03 04:00 - 03 12:00 x1",
    ]


def test_a_bounding_duration_and_period_end_it() -> None:
    week = {"frequency": 1, "period": 1, "periodUnit": "d"}
    lasting = planned({**week, "boundsDuration": {"value": 7, "code": "d"}})
    assert len(told(lasting, "2026-03-01", "2026-04-01")) == 7
    between = planned({**week, "boundsPeriod": {"start": "2026-03-05", "end": "2026-03-06"}})
    assert len(told(between, "2026-03-01", "2026-04-01")) == 2


def test_a_count_ends_it_wherever_one_looks_from() -> None:
    found = planned({"frequency": 2, "period": 1, "periodUnit": "d", "count": 5})
    assert told(found, "2026-03-01", "2026-04-01")[-1] == "04 00:00 - 05 00:00 x1"
    assert told(found, "2026-03-04", "2026-04-01") == ["04 00:00 - 05 00:00 x1"]
    assert told(found, "2026-03-05", "2026-04-01") == []


def test_a_long_measurement_is_missed_only_when_it_could_have_ended() -> None:
    repeat = {"period": 1, "periodUnit": "d", "duration": 40, "durationUnit": "min"}
    (window,) = planned(repeat).windows(instant("2026-03-02"), instant("2026-03-03"))
    assert window.settled - window.end == 40 * 60_000_000


def test_an_expected_date_is_that_day() -> None:
    bounds = DateRange(instant("2026-01-01"), LATEST)
    found = schedule.parse({"event": ["2026-03-10"]}, bounds, MOSCOW)
    assert found is not None
    assert told(found, "2026-01-01", "2027-01-01") == ["10 00:00 - 11 00:00 x1"]
    assert found.next_settled(instant("2026-01-05")) == instant("2026-03-11")
    assert found.next_settled(instant("2026-03-11")) is None


def test_an_abbreviation_alone_is_understood() -> None:
    bounds = DateRange(instant("2026-03-02"), LATEST)
    found = schedule.parse({"code": {"coding": [{"code": "BID"}]}}, bounds, MOSCOW)
    assert found is not None
    assert told(found, "2026-03-02", "2026-03-03") == ["02 00:00 - 03 00:00 x2"]
    assert schedule.parse({"code": {"text": "when he likes"}}, bounds, MOSCOW) is None


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25)]
)
def test_a_day_is_as_long_as_clocks_say(day: str, hours: int) -> None:
    found = planned({"period": 1, "periodUnit": "d"}, "2026-03-01", BERLIN)
    start = instant(day, BERLIN)
    (window,) = found.windows(start, start + 1)
    assert window.end - window.start == hours * 3_600_000_000


def test_a_time_that_the_clock_change_skips_is_still_asked_for() -> None:
    found = planned({"timeOfDay": ["02:30:00"]}, "2026-03-01", BERLIN)
    assert len(told(found, "2026-03-28", "2026-03-31", BERLIN)) == 3


def test_the_next_moment_is_that_of_the_next_window() -> None:
    found = planned({"frequency": 1, "period": 3, "periodUnit": "mo"}, "2026-01-01")
    assert found.next_settled(instant("2026-01-01")) == instant("2026-04-01")
    assert found.next_settled(instant("2026-04-01")) == instant("2026-07-01")


UNITS = st.sampled_from(["h", "d", "wk", "mo"])
REPEATS = st.fixed_dictionaries(
    {"frequency": st.integers(1, 6), "period": st.integers(1, 3), "periodUnit": UNITS},
    optional={
        "dayOfWeek": st.lists(st.sampled_from(["mon", "wed", "sun"]), min_size=1, unique=True),
        "count": st.integers(1, 40),
        "when": st.lists(st.sampled_from(["MORN", "ACD", "PCV", "HS"]), min_size=1, unique=True),
    },
)
ZONES = st.sampled_from([MOSCOW, BERLIN, ZoneInfo("America/Santiago")])


@given(REPEATS, ZONES, st.integers(0, 60), st.integers(1, 40))
def test_windows_are_in_order_apart_and_within_the_bounds(
    repeat: dict[str, Any], zone: ZoneInfo, begin: int, days: int
) -> None:
    found = planned(repeat, "2026-03-10", zone, end="2026-12-24")
    since = found.bounds.start + (begin - 10) * DAY
    windows = list(found.windows(since, since + days * DAY))
    assert all(one.end <= other.start for one, other in pairwise(windows))
    for window in windows:
        assert window.start < window.end
        assert window.needed > 0
        assert found.bounds.contains(DateRange(window.start, window.end))
        assert window.end > since
        assert window.start < since + days * DAY


@given(REPEATS, ZONES, st.integers(0, 60 * 24), st.integers(1, 40 * 24))
def test_windows_are_the_same_wherever_one_looks_from(
    repeat: dict[str, Any], zone: ZoneInfo, begin: int, hours: int
) -> None:
    found = planned(repeat, "2026-03-10", zone)
    hour = DAY // 24
    since, until = found.first + begin * hour, found.first + (begin + hours) * hour
    whole = [w for w in found.windows(found.first, until) if w.end > since]
    assert list(found.windows(since, until)) == whole


@given(REPEATS, ZONES, st.integers(0, 60 * 24))
def test_nothing_is_over_before_the_next_moment(
    repeat: dict[str, Any], zone: ZoneInfo, begin: int
) -> None:
    found = planned(repeat, "2026-03-10", zone)
    after = found.first + begin * DAY // 24
    due = found.next_settled(after)
    ends = [w.settled for w in found.windows(after, after + 130 * DAY) if w.settled > after]
    assert due == (ends[0] if ends else None)
