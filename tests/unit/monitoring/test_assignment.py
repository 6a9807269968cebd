from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import date_range
from fhir_server.core.date_range import LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring.assignment import (
    Assignment,
    PatientRecord,
    Plan,
    answered_plans,
    holders,
    is_named,
    is_overlap,
    local_key,
    parse_assignment,
    parse_device,
    parse_plan,
)

MOSCOW = ZoneInfo("Europe/Moscow")
STATEMENT = ResourceKey("DeviceUseStatement", "s")


def statement(patient="a", status="active", **timing):
    return {
        "resourceType": "DeviceUseStatement",
        "status": status,
        "subject": {"reference": f"Patient/{patient}"},
        "device": {"reference": "Device/d"},
        **timing,
    }


def assigned(patient="a", status="active", **timing):
    parsed = parse_assignment(STATEMENT, statement(patient, status, **timing), MOSCOW)
    return None if parsed is None else parsed[1]


def period(patient, start=None, end=None):
    ends = {name: text for name, text in (("start", start), ("end", end)) if text}
    assignment = assigned(patient, timingPeriod=ends)
    assert assignment is not None
    return assignment


def who(assignments, text):
    instant = date_range.parse(text, MOSCOW).start
    return {key.resource_id for key in holders(assignments, instant)}


def test_the_start_belongs_to_the_assignment_and_the_moment_before_does_not():
    assignments = [period("a", "2024-03-10T12:00:00+03:00")]
    assert who(assignments, "2024-03-10T11:59:59.999999+03:00") == set()
    assert who(assignments, "2024-03-10T12:00:00+03:00") == {"a"}


def test_the_whole_last_second_belongs_to_an_assignment_that_nobody_takes_over():
    assignments = [period("a", "2024-03-01", "2024-03-10T12:00:00+03:00")]
    assert who(assignments, "2024-03-10T12:00:00.999999+03:00") == {"a"}
    assert who(assignments, "2024-03-10T12:00:01+03:00") == set()


def test_who_takes_over_in_the_last_second_is_the_holder_from_then_on():
    assignments = [
        period("a", "2024-03-01", "2024-03-10T12:00:00+03:00"),
        period("b", "2024-03-10T12:00:00+03:00"),
    ]
    assert who(assignments, "2024-03-10T11:59:59.999999+03:00") == {"a"}
    assert who(assignments, "2024-03-10T12:00:00+03:00") == {"b"}
    assert not is_overlap(*assignments)


def test_a_last_day_belongs_to_both_who_share_it():
    assignments = [period("a", "2024-03-01", "2024-03-10"), period("b", "2024-03-10")]
    assert who(assignments, "2024-03-09T23:59:59+03:00") == {"a"}
    assert who(assignments, "2024-03-10T00:00:00+03:00") == {"a", "b"}
    assert who(assignments, "2024-03-11T00:00:00+03:00") == {"b"}
    assert is_overlap(*assignments)


def test_consecutive_days_do_not_overlap():
    assert not is_overlap(period("a", "2024-03-01", "2024-03-10"), period("b", "2024-03-11"))


def test_a_date_is_a_day_of_the_configured_zone():
    assignments = [period("a", "2024-03-10", "2024-03-10")]
    assert who(assignments, "2024-03-09T20:59:59Z") == set()
    assert who(assignments, "2024-03-09T21:00:00Z") == {"a"}
    assert who(assignments, "2024-03-10T20:59:59Z") == {"a"}
    assert who(assignments, "2024-03-10T21:00:00Z") == set()


@pytest.mark.parametrize(
    ("ends", "before", "after"),
    [({"start": "2024"}, False, True), ({"end": "2024-06"}, True, False)],
)
def test_an_open_end_reaches_for_ever(ends, before, after):
    assignments = [period("a", **ends)]
    assert bool(who(assignments, "1970-01-01T00:00:00Z")) is before
    assert bool(who(assignments, "2999-01-01T00:00:00Z")) is after


@pytest.mark.parametrize(
    "timing",
    [
        {},
        {"timingPeriod": {}},
        {"timingPeriod": {"extension": [{"url": "https://example.org/x", "valueCode": "y"}]}},
        {"timingTiming": {"repeat": {"frequency": 1}}},
    ],
)
def test_a_statement_without_a_time_assigns_nothing(timing):
    assert assigned(**timing) is None


@pytest.mark.parametrize("status", ["entered-in-error", "intended"])
def test_a_statement_that_is_wrong_or_only_meant_assigns_nothing(status):
    assert assigned(status=status, timingPeriod={"start": "2024-01-01"}) is None


def test_a_completed_statement_still_says_who_had_the_device():
    assignment = assigned(status="completed", timingPeriod={"start": "2024-01", "end": "2024-02"})
    assert who([assignment], "2024-01-15T00:00:00Z") == {"a"}


def test_a_statement_of_a_moment_assigns_that_moment():
    assert who([assigned(timingDateTime="2024-03-10")], "2024-03-10T12:00:00+03:00") == {"a"}
    assert who([assigned(timingDateTime="2024-03-10")], "2024-03-11T12:00:00+03:00") == set()


def test_a_period_that_ends_before_it_starts_assigns_nobody():
    backwards = period("a", "2024-03-10T12:00:00Z", "2024-03-10T10:00:00Z")
    assert who([backwards], "2024-03-10T11:00:00Z") == set()


def test_two_statements_of_one_patient_are_no_ambiguity():
    assert who([period("a", "2024"), period("a", "2023")], "2024-05-01T00:00:00Z") == {"a"}


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ({"reference": "Device/d"}, ResourceKey("Device", "d")),
        ({"reference": "Device/d/_history/3"}, ResourceKey("Device", "d")),
        ({"reference": "Patient/d"}, None),
        ({"reference": "http://elsewhere.example/fhir/Device/d"}, None),
        ({"reference": "#d"}, None),
        ({"identifier": {"value": "d"}}, None),
        (None, None),
    ],
)
def test_only_a_reference_to_a_resource_of_this_server_counts(reference, key):
    assert local_key(reference, "Device") == key


def test_a_device_entered_in_error_is_none():
    assert parse_device(ResourceKey("Device", "d"), {"status": "entered-in-error"}) is None


def test_the_auxiliary_tag_makes_a_device_auxiliary():
    tag = {
        "system": "https://pmp.example/fhir/CodeSystem/device-standing",
        "code": "auxiliary",
    }
    device = {"meta": {"tag": [tag]}, "identifier": [{"system": "s", "value": "v"}, {"use": "old"}]}
    record = parse_device(ResourceKey("Device", "d"), device)
    assert record.is_auxiliary
    assert record.identifiers == (IdentifierToken("s", "v"),)


PATIENT = PatientRecord(ResourceKey("Patient", "42"), (IdentifierToken("snils", "11223344595"),))


@pytest.mark.parametrize(
    ("system", "value", "named"),
    [
        ("snils", "11223344595", True),
        ("other", "11223344595", False),
        (None, "11223344595", True),
        (None, "42", True),
        (None, "Patient/42", True),
        ("snils", "42", False),
        (None, "43", False),
    ],
)
def test_a_patient_is_named_by_an_identifier_or_the_id(system, value, named):
    assert is_named(PATIENT, IdentifierToken(system, value)) is named


LOINC = "http://loinc.org"


def care_plan(status="active", activity_status="scheduled", **more):
    code = {"coding": [{"system": LOINC, "code": "85354-9"}]}
    return {
        "status": status,
        "activity": [
            {"detail": {"code": code, "status": activity_status}},
            {"reference": {"reference": "ServiceRequest/1"}},
        ],
        **more,
    }


def plan_of(resource):
    return parse_plan(ResourceKey("CarePlan", "p"), resource, MOSCOW, {})


@pytest.mark.parametrize("status", ["draft", "on-hold", "revoked", "completed", "unknown"])
def test_only_an_active_plan_is_answered(status):
    assert plan_of(care_plan(status)) is None


def test_a_cancelled_activity_asks_for_nothing():
    assert plan_of(care_plan(activity_status="cancelled")) is None


def test_a_reading_answers_a_plan_that_asked_for_its_code_while_it_ran():
    plan = plan_of(care_plan(period={"start": "2024-03-01", "end": "2024-03-31"}))
    during = date_range.parse("2024-03-31T23:59:00+03:00", MOSCOW).start
    after = date_range.parse("2024-04-01T00:00:00+03:00", MOSCOW).start
    assert answered_plans([plan], [(LOINC, "85354-9")], during) == (plan.key,)
    assert answered_plans([plan], [(LOINC, "85354-9")], after) == ()
    assert answered_plans([plan], [(LOINC, "8867-4")], during) == ()
    assert answered_plans([plan], [("urn:other", "85354-9")], during) == ()


def test_a_reading_answers_a_plan_that_asks_by_a_request():
    request = ResourceKey("ServiceRequest", "1")
    said = {"status": "active", "code": {"coding": [{"system": LOINC, "code": "29463-7"}]}}
    asked = care_plan(activity_status="cancelled")
    plan = parse_plan(ResourceKey("CarePlan", "p"), asked, MOSCOW, {request: said})
    assert isinstance(plan, Plan)
    assert plan.requests == {request}
    assert answered_plans([plan], [(LOINC, "29463-7")], 0) == (plan.key,)
    over = {request: {**said, "status": "revoked"}}
    assert parse_plan(plan.key, asked, MOSCOW, over) is None


def test_a_plan_without_a_period_runs_while_it_is_active():
    plan = plan_of(care_plan())
    assert isinstance(plan, Plan)
    assert answered_plans([plan], [(LOINC, "85354-9")], 0) == (plan.key,)


# Small numbers, so that edges meet often.
@st.composite
def assignments(draw, patient):
    start = draw(st.integers(0, 10))
    end = draw(st.integers(0, 12) | st.just(LATEST))
    leaving = draw(st.sampled_from([end, end if end == LATEST else max(start, end - 2)]))
    return Assignment(STATEMENT, ResourceKey("Patient", patient), DateRange(start, end), leaving)


@given(assignments("a"), assignments("b"))
def test_an_overlap_is_an_instant_with_two_holders(one, other):
    shared = [t for t in range(-1, 15) if len(holders([one, other], t)) == 2]
    assert is_overlap(one, other) is bool(shared)
    assert is_overlap(other, one) is bool(shared)


@given(st.lists(assignments("a") | assignments("b") | assignments("c"), max_size=5))
def test_a_holder_has_an_assignment_of_that_time_and_somebody_has_if_any_was_assigned(held):
    for instant in range(-1, 15):
        found = holders(held, instant)
        covering = {a.patient for a in held if a.period.start <= instant < a.period.end}
        assert found <= covering
        assert bool(found) is bool(covering)


@given(
    st.datetimes(timezones=st.just(UTC)).filter(lambda t: 1900 < t.year < 2100),
    st.datetimes(timezones=st.just(UTC)).filter(lambda t: 1900 < t.year < 2100),
)
def test_handing_over_at_any_instant_is_never_ambiguous(handover, measured):
    text = handover.isoformat()
    held = [period("a", None, text), period("b", text)]
    found = holders(held, date_range.from_datetime(measured))
    assert found == {ResourceKey("Patient", "a" if measured < handover else "b")}
