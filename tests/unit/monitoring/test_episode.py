"""Episodes: they follow from the readings in order of time, wherever judging begins."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.episode import Point, judge, resumed
from fhir_server.core.monitoring.rule import Rule, RuleKind


def rule(kind=RuleKind.LIMIT, limit="140", **more):
    return Rule(
        "r", "c", kind, frozenset(), True, Decimal(limit), "mm[Hg]", ResourceKey("Goal", "1"),
        DateRange(EARLIEST, LATEST), **more,
    )  # fmt: skip


def points(*values, step=10):
    return [
        Point(step * n, ResourceKey("Observation", f"{n:03}"), Decimal(value))
        for n, value in enumerate(values, 1)
    ]


def episodes(of, readings, begin=EARLIEST, before=None):
    found = [before] if before else []
    for judged in judge(of, readings, begin, before):
        if judged.is_new or (judged.episode and not found):
            found.append(judged.episode)
        elif judged.episode:
            found[-1] = judged.episode
    return [(e.start, e.end) for e in found]


RULES = {
    "limit": rule(margin=Decimal(5)),
    "cooldown": rule(margin=Decimal(5), cooldown=25),
    "mean": rule(RuleKind.MEAN, window=40, last=3, margin=Decimal(2)),
    "repeated": rule(RuleKind.REPEATED, window=60, last=4, times=2),
    "change": rule(RuleKind.CHANGE, limit="15", window=50, margin=Decimal(3)),
}


def test_a_value_that_sways_around_the_limit_is_one_episode():
    sways = points(150, 139, 141, 138, 142, 134, 139)
    assert episodes(RULES["limit"], sways) == [(10, 60)]


def test_beyond_again_before_the_cooldown_is_over_is_the_same_episode():
    readings = points(150, 130, 150, 130, 130, 130, 150)
    assert episodes(RULES["limit"], readings) == [(10, 20), (30, 40), (70, None)]
    assert episodes(RULES["cooldown"], readings) == [(10, 40), (70, None)]


def test_a_mean_needs_as_many_readings_as_it_says():
    assert episodes(RULES["mean"], points(160, 160)) == []
    assert episodes(RULES["mean"], points(160, 160, 160)) == [(30, None)]


def test_one_high_reading_does_not_move_a_low_mean():
    assert episodes(RULES["mean"], points(120, 120, 150, 120)) == []


def test_k_of_n_looks_at_the_newest_in_the_window():
    assert episodes(RULES["repeated"], points(150, 120, 120, 120, 150)) == []
    assert episodes(RULES["repeated"], points(150, 120, 150)) == [(30, None)]


def test_a_rise_within_the_window_is_met_and_left():
    assert episodes(RULES["change"], points(80, 85, 96, 97, 97, 97, 97, 97)) == [(30, 70)]


def test_a_rise_that_takes_longer_than_the_window_is_none():
    assert episodes(RULES["change"], points(*range(80, 120, 2))) == []


def test_evidence_is_the_reading_that_met_the_rule_first():
    (judged,) = judge(RULES["limit"], points(150), EARLIEST, None)
    assert judged.episode.evidence == (ResourceKey("Observation", "001"),)


@pytest.mark.parametrize("name", RULES)
@given(
    values=st.lists(st.integers(100, 180), min_size=1, max_size=30),
    data=st.data(),
)
def test_judging_from_any_reading_on_ends_as_judging_all(name, values, data):
    of, readings = RULES[name], points(*values)
    begin = data.draw(st.sampled_from([p.instant for p in readings]))
    whole = []
    before = None
    for judged in judge(of, readings, EARLIEST, None):
        if judged.point.instant < begin:
            before = judged.episode
        whole.append(judged.episode)
    # As it is stored when all is known: the end may lie behind `begin`.
    stored = before
    for judged in judge(of, readings, EARLIEST, None):
        if stored and judged.episode and judged.episode.start == stored.start:
            stored = judged.episode
    again = [
        judged.episode
        for judged in judge(of, readings, begin, resumed(stored, begin))
        if judged.point.instant >= begin
    ]
    assert [(e.start, e.end) if e else None for e in again] == [
        (e.start, e.end) if e else None for e in whole[len(whole) - len(again) :]
    ]
