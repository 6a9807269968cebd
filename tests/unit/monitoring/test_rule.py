"""Rules: what is beyond a limit, what is back, and what Goals and plans make of it."""

from datetime import UTC
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.limits import (
    ALERT_RULE,
    MonitoringRules,
    PlanRule,
    goal_rules,
    plan_rules,
)
from fhir_server.core.monitoring.rule import Rule, RuleKind
from fhir_server.definitions import read_monitoring_rules
from fhir_server.r4_files import shipped_folder

GOAL = ResourceKey("Goal", "1")
PLAN = ResourceKey("CarePlan", "1")
SYSTOLIC = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
SHIPPED = read_monitoring_rules([shipped_folder("profiles")])


def mmhg(value, comparator=None):
    quantity = {"value": Decimal(value), "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
    return {**quantity, "comparator": comparator} if comparator else quantity


def goal(target, **more):
    return {"lifecycleStatus": "active", "target": [{"measure": SYSTOLIC, **target}], **more}


def rules_of(resource, shipped=SHIPPED):
    return tuple(goal_rules(GOAL, resource, shipped, UTC))


def plan(**more):
    category = {"system": "https://pmp.example/fhir/CodeSystem/care-plan", "code": "hypertension"}
    return {"status": "active", "category": [{"coding": [category]}], **more}


def limit(is_above, value="140", **more):
    return Rule(
        "r", "c", RuleKind.LIMIT, frozenset(), is_above, Decimal(value), "mm[Hg]", GOAL,
        DateRange(EARLIEST, LATEST), **more,
    )  # fmt: skip


@given(st.decimals(0, 300, places=1), st.booleans(), st.decimals(0, 20, places=1))
def test_no_value_is_beyond_and_back_at_once(value, is_above, margin):
    for is_inclusive in (True, False):
        rule = limit(is_above, is_inclusive=is_inclusive, margin=margin)
        assert not (rule.is_beyond(value) and rule.is_back(value)) or value == rule.limit


@pytest.mark.parametrize(
    ("is_above", "value", "comparator", "is_beyond"),
    [
        (True, "140", "", False),
        (True, "140", ">", True),
        (True, "150", ">", True),
        (True, "130", ">", False),
        (True, "150", "<", False),
        (False, "140", "<", True),
        (False, "130", "<", True),
        (False, "150", "<", False),
        (False, "130", ">", False),
    ],
)
def test_hi_and_lo_are_beyond_only_what_they_are_beyond_for_certain(
    is_above, value, comparator, is_beyond
):
    assert limit(is_above).is_beyond(Decimal(value), comparator) is is_beyond


def test_hi_is_never_back_below_an_upper_limit():
    assert not limit(True).is_back(Decimal("33.3"), ">")


def test_a_range_is_a_rule_on_either_side_and_its_ends_are_allowed():
    low, high = rules_of(goal({"detailRange": {"low": mmhg("90"), "high": mmhg("140")}}))
    assert (low.code, low.limit, low.is_above) == ("below-limit", 90, False)
    assert (high.code, high.limit, high.is_above) == ("above-limit", 140, True)
    assert not high.is_beyond(Decimal(140))
    assert low.rule_id != high.rule_id


def test_less_than_a_limit_has_the_limit_beyond():
    (rule,) = rules_of(goal({"detailQuantity": mmhg("140", "<")}))
    assert rule.is_beyond(Decimal(140))


def test_a_value_to_be_reached_is_no_limit():
    assert rules_of(goal({"detailQuantity": mmhg("120")})) == ()


@pytest.mark.parametrize("status", ["proposed", "on-hold", "completed", "entered-in-error"])
def test_a_goal_that_is_not_in_force_makes_no_rule(status):
    assert rules_of(goal({"detailQuantity": mmhg("140", "<")}, lifecycleStatus=status)) == ()


def test_a_goal_bounds_what_it_looks_at_by_its_start_and_due_date():
    target = {"detailQuantity": mmhg("140", "<="), "dueDate": "2024-02-01"}
    (rule,) = rules_of(goal(target, startDate="2024-01-01"))
    assert rule.period.end - rule.period.start == 32 * 86_400_000_000


def test_the_extension_says_what_else_than_one_reading_is_looked_at():
    parts = [
        {"url": "kind", "valueCode": "repeated"},
        {"url": "severity", "valueCode": "high"},
        {"url": "last", "valuePositiveInt": 4},
        {"url": "times", "valuePositiveInt": 3},
        {"url": "window", "valueDuration": {"value": Decimal(2), "code": "d"}},
        {"url": "cooldown", "valueDuration": {"value": Decimal(10), "code": "min"}},
        {"url": "margin", "valueQuantity": mmhg("7")},
    ]
    extension = [{"url": ALERT_RULE, "extension": parts}]
    (rule,) = rules_of(goal({"detailQuantity": mmhg("140", "<="), "extension": extension}))
    assert rule.code == "repeatedly-above-limit"
    assert (rule.kind, rule.severity, rule.last, rule.times) == (RuleKind.REPEATED, "high", 4, 3)
    assert (rule.window, rule.cooldown) == (2 * 86_400_000_000, 600_000_000)
    assert rule.margin == 7


def test_every_shipped_plan_has_rules():
    assert {rule.plan for rule in SHIPPED.plans} == {
        "hypertension", "diabetes", "pregnancy", "heart-failure",
    }  # fmt: skip


def test_a_plan_brings_the_rules_of_its_kind():
    codes = {(r.code, r.limit) for r in plan_rules(PLAN, plan(), SHIPPED, (), UTC)}
    assert ("far-above-limit", Decimal(180)) in codes
    assert not any(limit == Decimal("3.0") for _, limit in codes)


def test_a_plan_that_is_over_brings_none():
    assert not tuple(plan_rules(PLAN, plan(status="completed"), SHIPPED, (), UTC))


def test_the_physicians_wider_limit_wins_over_the_plans():
    own = rules_of(goal({"detailQuantity": mmhg("190", "<=")}))
    limits = {
        (r.code, r.limit)
        for r in plan_rules(PLAN, plan(), SHIPPED, own, UTC)
        if ("http://loinc.org", "8480-6") in r.codes and r.is_above
    }
    assert limits == set()


def test_the_physicians_narrower_limit_stands_beside_the_plans():
    own = rules_of(goal({"detailQuantity": mmhg("130", "<=")}))
    codes = {r.code for r in plan_rules(PLAN, plan(), SHIPPED, own, UTC)}
    assert "far-above-limit" in codes


def test_limits_of_another_unit_are_compared_by_what_they_mean():
    shipped = MonitoringRules(
        plans=(PlanRule("hypertension", "above-limit", RuleKind.LIMIT, ("8480-6",), True,
                        Decimal(16), "kPa"),)
    )  # fmt: skip
    allowed = rules_of(goal({"detailQuantity": mmhg("130", "<=")}), shipped)
    assert not tuple(plan_rules(PLAN, plan(), shipped, allowed, UTC))
