"""Aggregates: the share in target, in any unit, and the share taken of what was planned."""

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.insurer.aggregate import Facts, Period, local_day, report, report_value

ZONE = ZoneInfo("Europe/Moscow")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OCTOBER = Period(date(2026, 10, 1), date(2026, 10, 31))
GLUCOSE = {"coding": [{"system": "http://loinc.org", "code": "14743-9"}]}
UCUM = "http://unitsofmeasure.org"


def quantity(value, code="mmol/L", **more):
    return {"value": Decimal(str(value)), "system": UCUM, "code": code, **more}


def reading(value, code="mmol/L", day=5, **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": GLUCOSE,
        "valueQuantity": quantity(value, code),
        "effectiveDateTime": f"2026-10-{day:02d}T08:00:00+03:00",
        **more,
    }


def goal(**detail):
    target = {"measure": GLUCOSE, **detail}
    return {"resourceType": "Goal", "lifecycleStatus": "active", "target": [target]}


RANGE = {"detailRange": {"low": quantity(4), "high": quantity(7)}}


def groups(observations, goals=(), plans=(), period=OCTOBER, now=NOW):
    made = report(Facts(observations, goals, plans), {}, "x", period, now, ZONE)
    return {
        each["code"]["coding"][0]["code"]: (
            *(part["count"] for part in each["population"]),
            each.get("measureScore", {}).get("value"),
        )
        for each in made["group"]
    }


def test_readings_are_counted_with_their_days():
    found = groups([reading(5), reading(6), reading(7, day=6)])
    assert found == {"readings": (3, 2, None)}


@pytest.mark.parametrize(
    ("value", "code", "is_in"),
    [
        (4, "mmol/L", True),
        (7, "mmol/L", True),
        ("7.01", "mmol/L", False),
        ("3.99", "mmol/L", False),
        (6, "mmol/L", True),
        (6000, "umol/L", True),
        (7001, "umol/L", False),
    ],
)
def test_limits_belong_to_the_target_and_units_convert(value, code, is_in):
    assert groups([reading(value, code)], [goal(**RANGE)])["in-target"][:2] == (1, int(is_in))


@pytest.mark.parametrize(
    ("comparator", "inside", "outside"),
    [("<=", 7, 8), ("<", 6, 7), (">=", 7, 6), (">", 8, 7)],
)
def test_one_limit_alone_says_on_which_side(comparator, inside, outside):
    limits = {"detailQuantity": quantity(7, comparator=comparator)}
    found = groups([reading(inside), reading(outside)], [goal(**limits)])
    assert found["in-target"] == (2, 1, Decimal("0.500"))


def test_what_does_not_compare_is_not_counted():
    observations = [
        reading(5, "kg"),
        reading(5, status="entered-in-error"),
        reading(5) | {"valueQuantity": quantity(5, comparator="<")},
    ]
    assert groups(observations, [goal(**RANGE)])["in-target"] == (0, 0, None)


def plan(frequency=2, period=1, unit="d", **more):
    timing = {"repeat": {"frequency": frequency, "period": period, "periodUnit": unit}}
    detail = {"code": GLUCOSE, "status": "scheduled", "scheduledTiming": timing}
    return {
        "resourceType": "CarePlan",
        "status": "active",
        "period": {"start": "2026-10-01", "end": "2026-10-10"},
        "activity": [{"detail": detail}],
        **more,
    }


def test_adherence_is_what_was_taken_of_what_was_asked_for_and_no_more():
    taken = [reading(5, day=1), reading(5, day=1), reading(5, day=1), reading(5, day=4)]
    assert groups(taken, plans=[plan()])["adherence"] == (20, 3, Decimal("0.150"))


def test_of_days_to_come_nothing_is_expected():
    now = datetime(2026, 10, 4, 9, tzinfo=UTC)
    found = groups([reading(5, day=1)], plans=[plan(1)], now=now)
    assert found["adherence"] == (3, 1, Decimal("0.333"))
    assert "adherence" not in groups([], plans=[plan(1)], now=datetime(2026, 9, 1, tzinfo=UTC))


@pytest.mark.parametrize("unit", ["h", "mo"])
def test_a_rhythm_that_is_not_of_days_is_not_guessed(unit):
    assert "adherence" not in groups([reading(5)], plans=[plan(unit=unit)])


def test_a_day_is_where_the_server_is():
    late = reading(5) | {"effectiveDateTime": "2026-10-31T22:30:00Z"}
    assert local_day(late, ZONE) == date(2026, 11, 1)
    assert local_day(reading(5) | {"effectiveDateTime": "x"}, ZONE) is None


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.sampled_from(["day", "month"]))
def test_a_period_is_read_back_and_holds_its_day(day, kind):
    period = Period.of(day, kind)
    assert Period.parse(str(period)) == period
    assert period.first <= day <= period.last
    assert Period.of(period.last, kind) == period


def test_the_identifier_says_nothing_and_is_one_for_patient_and_period():
    assert report_value("insurer/Patient/1", OCTOBER) == report_value("insurer/Patient/1", OCTOBER)
    other = OCTOBER._replace(last=date(2026, 10, 30))
    names = {
        report_value(n, p) for n in ("a", "b") for p in (OCTOBER, Period.of(NOW.date(), "day"))
    }
    assert len(names) == 4
    assert "Patient" not in report_value("insurer/Patient/1", other)
