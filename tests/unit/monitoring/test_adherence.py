"""Adherence: which expected measurements were made, in time or late."""

from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import adherence
from fhir_server.core.monitoring.adherence import PlannedActivity, Reading, Tally
from fhir_server.core.monitoring.assignment import requested_by

ZONE = ZoneInfo("Europe/Moscow")
PLAN = ResourceKey("CarePlan", "1")
SYSTEM = "http://loinc.org"
HOUR = 3_600_000_000
MONDAY = date_range.parse("2026-03-02", ZONE).start
CODES = frozenset({(SYSTEM, "85354-9")})


def detail(*when: str, code: str = "85354-9", **repeat: Any) -> dict[str, Any]:
    timing = {"frequency": 1, "period": 1, "periodUnit": "d", **repeat}
    return {
        "detail": {
            "code": {"coding": [{"system": SYSTEM, "code": code}]},
            "status": "scheduled",
            "scheduledTiming": {"repeat": {**timing, **({"when": list(when)} if when else {})}},
        }
    }


def activities(*planned: dict[str, Any], **more: Any) -> tuple[PlannedActivity, ...]:
    plan = {"status": "active", "period": {"start": "2026-03-02"}, "activity": planned, **more}
    return adherence.planned_activities(PLAN, plan, {}, ZONE)


def tally(found: tuple[PlannedActivity, ...], *hours: float, until: int = 24) -> list[Tally]:
    expected = adherence.expectations(found, MONDAY, MONDAY + until * HOUR)
    readings = [Reading(MONDAY + int(hour * HOUR), CODES) for hour in hours]
    kept = adherence.compare(found, expected, readings)
    return list(adherence.tallies(len(found), kept, MONDAY + until * HOUR))


def test_in_time_late_and_missed() -> None:
    plan = activities(detail("MORN"))
    assert tally(plan, 8) == [Tally(1, 1, 1)]
    assert tally(plan, 13) == [Tally(1, 1, 0)]
    assert tally(plan, 22) == [Tally(1, 0, 0)]


def test_a_reading_is_counted_once_for_two_activities() -> None:
    plan = activities(detail("MORN"), detail("EVE"))
    assert tally(plan, 18) == [Tally(1, 0, 0), Tally(1, 1, 1)]


def test_readings_of_one_moment_are_one() -> None:
    assert tally(activities(detail("MORN", frequency=2)), 8, 8) == [Tally(2, 1, 1)]


def test_more_than_was_asked_for_is_no_more_than_done() -> None:
    assert tally(activities(detail("MORN")), 5, 6, 7, 8) == [Tally(1, 1, 1)]


def test_a_window_that_goes_on_is_not_expected_yet() -> None:
    assert tally(activities(detail()), until=23) == [Tally()]
    assert tally(activities(detail("MORN")), until=12) == [Tally(1, 0, 0)]


def test_readings_of_other_codes_do_not_count() -> None:
    assert tally(activities(detail("MORN", code="29463-7")), 8) == [Tally(1, 0, 0)]


def test_an_activity_of_a_request_is_as_one_of_the_plan() -> None:
    request = ResourceKey("ServiceRequest", "r")
    own = detail("MORN")["detail"]
    resource = {"status": "active", "code": own["code"], "occurrenceTiming": own["scheduledTiming"]}
    plan = {
        "status": "active",
        "period": {"start": "2026-03-02"},
        "activity": [{"reference": {"reference": str(request)}}],
    }
    (found,) = adherence.planned_activities(PLAN, plan, {request: resource}, ZONE)
    assert found.activity_id == str(request)
    assert requested_by(plan) == (request,)
    assert adherence.planned_activities(PLAN, plan, {}, ZONE) == ()
    over = {request: {**resource, "status": "revoked"}}
    assert adherence.planned_activities(PLAN, plan, over, ZONE) == ()


def test_a_draft_asks_for_nothing() -> None:
    assert activities(detail(), status="draft") == ()


def observation(**more: Any) -> dict[str, Any]:
    return {
        "status": "final",
        "code": {"coding": [{"system": SYSTEM, "code": "85354-9"}]},
        "effectiveDateTime": "2026-03-02T08:00:00+03:00",
        "component": [{"valueQuantity": {"value": 120}}],
        **more,
    }


def test_what_was_not_measured_or_is_auxiliary_is_no_reading() -> None:
    assert adherence.reading(observation(), ZONE) == Reading(MONDAY + 8 * HOUR, CODES)
    assert adherence.reading(observation(status="entered-in-error"), ZONE) is None
    assert adherence.reading(observation(component=[{"dataAbsentReason": {}}]), ZONE) is None
    tag = {"system": "https://pmp.example/fhir/CodeSystem/device-standing", "code": "auxiliary"}
    assert adherence.reading(observation(meta={"tag": [tag]}), ZONE) is None


@given(
    st.lists(st.sampled_from(["MORN", "NOON", "AFT", "EVE", "ACM", "HS"]), min_size=1, max_size=4),
    st.integers(1, 3),
    st.lists(st.floats(0, 95), max_size=30),
    st.floats(0, 95),
)
def test_no_reading_counts_twice_and_one_more_never_harms(
    when: list[str], frequency: int, hours: list[float], more: float
) -> None:
    plan = activities(*(detail(each, frequency=frequency) for each in when))
    found = tally(plan, *hours, until=96)
    assert sum(t.done for t in found) <= len(hours)
    for each in found:
        assert 0 <= each.on_time <= each.done <= each.expected
    again = tally(plan, *hours, more, until=96)
    assert sum(t.on_time for t in again) >= sum(t.on_time for t in found)
