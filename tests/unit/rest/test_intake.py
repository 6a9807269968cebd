"""What a gateway has left of its rate, over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.security.principal import Intake, Principal
from fhir_server.errors import Throttled
from fhir_server.operations.ingest_readings import ReadPayload
from fhir_server.rest.intake import Rates


class Clock:
    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds


def principal(rate, name="hub"):
    return Principal("gateway", name, name, intake=Intake(per_minute=rate))


def admit(rates, who):
    """Alone a process waits for nobody."""
    try:
        rates.admit(who).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def payloads(number):
    return [ReadPayload(position, b"{}", ()) for position in range(number)]


@given(
    st.integers(1, 600),
    st.lists(st.tuples(st.floats(0, 120), st.integers(1, 50)), max_size=60),
)
def test_over_time_no_more_is_taken_than_was_agreed_and_one_body_over(rate, steps):
    clock = Clock()
    rates = Rates(clock)
    begun, taken, largest = clock.seconds, 0, 0
    for wait, number in steps:
        clock.seconds += wait
        try:
            admit(rates, principal(rate)).limit(payloads(number))
        except Throttled as refused:
            clock.seconds += refused.retry_after
            # Who waits as long as they are told is let in.
            admit(rates, principal(rate)).limit(payloads(number))
        taken += number
        largest = max(largest, number)
    agreed = rate + (clock.seconds - begun) * rate / 60
    assert taken <= agreed + largest


def test_each_gateway_has_its_own():
    rates = Rates(Clock())
    admit(rates, principal(1, "a")).limit(payloads(5))
    with pytest.raises(Throttled):
        admit(rates, principal(1, "a"))
    admit(rates, principal(1, "b"))


def test_who_is_no_gateway_has_no_rate():
    rates = Rates(Clock())
    for who in (None, Principal("system"), Principal("gateway", intake=Intake())):
        for _ in range(3):
            admit(rates, who).limit(payloads(1_000))
