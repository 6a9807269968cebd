"""Lanes: a dead or slow endpoint delays nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.outbox.subscription_lanes import BROKEN_AFTER, SLOW, Lanes


def test_a_subscription_takes_one_thread_at_a_time():
    lanes = Lanes(4)
    assert lanes.take("a", "x", 0)
    assert not lanes.take("a", "x", 0)
    lanes.give_back("a", "x", 1, pause=0, took=0.1)
    assert lanes.take("a", "x", 1)


def test_one_that_failed_is_left_alone_for_its_pause():
    lanes = Lanes(4)
    lanes.take("a", "x", 0)
    lanes.give_back("a", "x", 1, pause=5, took=0.1)
    assert not lanes.take("a", "x", 5.9)
    assert lanes.take("b", "x", 5.9)
    assert lanes.take("a", "x", 6)


def test_slow_ones_leave_half_of_the_threads_to_the_rest():
    lanes = Lanes(4)
    for name in "abcd":
        assert lanes.take(name, name, 0)
        lanes.give_back(name, name, 10, pause=0, took=SLOW + 1)
    assert [lanes.take(name, name, 10) for name in "abcd"] == [True, True, False, False]
    assert [lanes.take(name, name, 10) for name in "xyz"] == [True, True, False]


def test_a_silent_endpoint_is_asked_by_one_for_all():
    lanes = Lanes(8)
    lanes.take("a", "dead", 0)
    lanes.silence("dead", 0)
    lanes.give_back("a", "dead", 0, pause=0.1, took=0.1)
    assert not lanes.take("b", "dead", 0.09)
    assert lanes.take("c", "well", 0.1)
    assert lanes.take("b", "dead", 2)
    assert not lanes.take("a", "dead", 2)
    lanes.give_back("b", "dead", 2.1, pause=0, took=0.1)
    assert lanes.take("a", "dead", 2.1)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.floats(0, 9))))
def test_no_more_are_busy_than_there_are_threads_and_all_come_back(steps):
    lanes = Lanes(3)
    busy, now = set(), 0.0
    for name, is_failure, seconds in steps:
        now += seconds
        if name in busy:
            busy.discard(name)
            if is_failure:
                lanes.silence(name, now)
            lanes.give_back(name, name, now, pause=1.0 if is_failure else 0.0, took=seconds)
        elif lanes.take(name, name, now):
            busy.add(name)
        assert len(busy) <= 3
    for name in busy:
        lanes.give_back(name, name, now, pause=0.0, took=0.0)
    assert all(lanes.take(name, name, now + 1_000) for name in "a")


def test_an_endpoint_that_fails_whoever_asks_is_left_alone_as_a_whole():
    lanes = Lanes(8)
    for number in range(BROKEN_AFTER):
        assert lanes.take(f"s{number}", "e", 0.0)
        lanes.fail("e", 0.0, None)
        lanes.give_back(f"s{number}", "e", 0.0, pause=0.1, took=0.1)
    assert not lanes.take("another", "e", 0.04)
    assert lanes.take("elsewhere", "other", 0.04)
    # One of them finds out for all whether it is well again.
    assert lanes.take("another", "e", 60.0)
    assert not lanes.take("s1", "e", 60.0)
    lanes.give_back("another", "e", 60.0, pause=0.0, took=0.1)
    assert lanes.take("s1", "e", 60.0)


def test_one_success_between_failures_keeps_an_endpoint_in_use():
    lanes = Lanes(8)
    for number in range(3 * BROKEN_AFTER):
        assert lanes.take("s", "e", float(number))
        pause = 0.1 if number % BROKEN_AFTER else 0.0
        if pause:
            lanes.fail("e", float(number), None)
        lanes.give_back("s", "e", float(number), pause=pause, took=0.1)


def test_the_seconds_that_an_endpoint_asks_for_count_for_all_its_subscriptions():
    lanes = Lanes(8)
    assert lanes.take("a", "e", 0.0)
    lanes.fail("e", 0.0, 120.0)
    lanes.give_back("a", "e", 0.0, pause=0.1, took=0.1)
    assert not lanes.take("b", "e", 119.0)
    assert lanes.take("b", "e", 121.0)


def test_failures_between_successes_are_not_in_a_row():
    lanes = Lanes(8)
    for number in range(20):
        now = float(number)
        assert lanes.take("s", "e", now)
        lanes.succeed("e")
        lanes.silence("e", now)
        lanes.give_back("s", "e", now, pause=0.1, took=0.1)
        assert lanes.next_end(now) == pytest.approx(0.1)
    assert lanes.next_end(100.0) is None
