"""How long to wait before the next attempt."""

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.outbox.backoff import Backoff

chances = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.integers(1, 10**9), chances)
def test_no_wait_is_longer_than_the_cap_or_less_than_nothing(failures, chance):
    assert 0 <= Backoff(1.0, 300.0).delay(failures, chance) < 300.0


def test_the_longest_wait_doubles_with_each_failure_up_to_the_cap():
    backoff = Backoff(1.0, 10.0)
    longest = [backoff.delay(failures, 1.0) for failures in range(1, 7)]
    assert longest == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@given(st.integers(1, 10**9), chances, st.floats(0, 3_600))
def test_what_the_receiver_asked_for_is_waited_out(failures, chance, asked):
    assert asked <= Backoff(1.0, 300.0).delay(failures, chance, asked) <= asked + 1.0


def test_a_receiver_cannot_ask_for_ever():
    assert Backoff(1.0, 300.0, retry_after_cap=60.0).delay(1, 0.0, 1e12) == 60.0


def test_a_receiver_cannot_ask_for_less_than_nothing():
    assert Backoff(1.0, 300.0).delay(1, 0.0, -5.0) == 0.0
