"""Who a request is counted for, and how many a minute that may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.errors import Throttled
from fhir_server.rest.client_address import UNKNOWN, ClientAddresses
from fhir_server.rest.request_rate import RequestRate


def find(peer, forwarded=None, trusted=()):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"client": peer and (peer, 1), "headers": headers}
    return ClientAddresses(trusted).find(scope)


def test_a_stranger_does_not_choose_who_it_is():
    assert find("192.0.2.7", "198.51.100.1") == "192.0.2.7"
    assert find("192.0.2.7", "198.51.100.1", ("10.0.0.0/8",)) == "192.0.2.7"


def test_behind_a_proxy_the_last_stranger_is_who_asks():
    trusted = ("10.0.0.0/8",)
    assert find("10.0.0.1", "198.51.100.1", trusted) == "198.51.100.1"
    assert find("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", trusted) == "198.51.100.1"
    assert find("10.0.0.1", "198.51.100.1, nonsense", trusted) == "10.0.0.1"
    assert find("10.0.0.1", None, trusted) == "10.0.0.1"


def test_the_addresses_of_one_customer_are_one_client():
    assert find("2001:db8::1") == find("2001:db8::2:3") != find("2001:db8:0:1::1")
    assert find("::ffff:192.0.2.7") == "192.0.2.7"
    assert find(None) == UNKNOWN


def test_a_rate_is_kept_a_client_and_says_when_to_come_again():
    now = 0.0
    rate = RequestRate(60, lambda: now)
    for _ in range(10):
        rate.count("a")
    with pytest.raises(Throttled) as refused:
        rate.count("a")
    assert refused.value.retry_after == 1
    rate.count("b")
    now = 1.0
    rate.count("a")
    with pytest.raises(Throttled):
        rate.count("a")


@given(st.lists(st.floats(0, 5), max_size=200), st.integers(1, 600))
def test_no_pattern_gets_more_than_the_rate_and_one_burst(gaps, per_minute):
    now, taken = 0.0, 0
    rate = RequestRate(per_minute, lambda: now)
    for gap in gaps:
        now += gap
        try:
            rate.count("a")
            taken += 1
        except Throttled:
            continue
    assert taken <= now * per_minute / 60 + max(1, per_minute / 6) + 1e-6


def test_without_a_rate_nothing_is_counted():
    rate = RequestRate(0)
    for _ in range(1_000):
        rate.count("a")
