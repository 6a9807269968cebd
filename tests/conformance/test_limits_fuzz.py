"""Fuzzers: whatever is sent, the answer is in FHIR, in time, and no 5xx but 503.

FHIR_SERVER_TEST_SCALE multiplies them. `make fuzz` sends a million from outside, on both stores,
and looks at what the process keeps: `fuzz_soak.py`.
"""

import os
import random
import time
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from fhir_server.rest import openapi
from fhir_server.rest.routes import FHIR_ROUTES
from tests.conformance import fuzz_requests
from tests.conformance.conftest import Server
from tests.conformance.fuzz_callers import PATIENT, READING, Callers
from tests.conformance.fuzz_soak import Soak
from tests.provision import mongod

SCALE = float(os.environ.get("FHIR_SERVER_TEST_SCALE", "1"))
SECONDS = 5.0
pytestmark = pytest.mark.timeout(240 * max(1.0, SCALE / 10))
REQUESTS = 20
# What the process may grow by, once its caches are warm.
MEGABYTES = 400

SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large,
              HealthCheck.filter_too_much]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed():
    with Server(monitoring=True) as server:
        yield server


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        yield session


def ask(session, server, wish):
    url = server.url + wish.path
    return session.request(wish.method, url, data=wish.body, headers=wish.headers, timeout=60)


def resident_megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@settings(max_examples=int(25 * SCALE), deadline=None, database=None,
          suppress_health_check=SUPPRESSED)  # fmt: skip
@given(seed=st.integers(0, 2**62))
def test_a_request_that_knows_fhir_and_means_harm_is_answered(fuzzed, session, seed):
    chance = random.Random(seed)
    for _ in range(REQUESTS):
        wish = fuzz_requests.make(chance)
        begun = time.monotonic()
        answer = ask(session, fuzzed, wish)
        taken = time.monotonic() - begun
        assert answer.status_code < 500 or answer.status_code == 503, (wish, answer.text)
        assert "the log knows it as" not in answer.text, (wish, answer.text)
        assert taken < SECONDS, (taken, wish)


def test_memory_is_bounded(fuzzed, session):
    """The server is in this process, so what it keeps is seen from here."""
    chance = random.Random(7)

    def send(number):
        for _ in range(number):
            ask(session, fuzzed, fuzz_requests.make(chance))

    send(100)
    before = resident_megabytes()
    send(int(200 * SCALE))
    assert resident_megabytes() - before < MEGABYTES


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def store(request, tmp_path_factory):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('fuzzed')}/fhir.db"
    else:
        with mongod.databases(tmp_path_factory) as new_database:
            yield new_database()


def test_whoever_asks_is_answered_and_told_nothing_that_is_kept_from_them(store):
    with Server(store=store, auth="smart", plan_templates=False) as server:
        callers = Callers(server.url, store).all
        assert any({PATIENT, READING} <= each.may_see for each in callers)
        soak = Soak(server.socket.getsockname()[1], 1, callers, SECONDS)
        soak.run(range(int(3 * SCALE)), lanes=2)
    assert soak.sent == 20 * int(3 * SCALE)
    assert soak.findings == []


schema = schemathesis.openapi.from_dict(openapi.describe(FHIR_ROUTES))


# Lines of readings and XML are for the fuzzer above.
@pytest.mark.filterwarnings("ignore:Skipped test cases:UserWarning")
@schema.parametrize()
@settings(max_examples=max(2, int(2 * SCALE)), deadline=None, database=None,
          suppress_health_check=SUPPRESSED)  # fmt: skip
def test_what_the_description_allows_is_answered(case, fuzzed):
    answer = case.call(base_url=fuzzed.url)
    if answer.status_code != 503:
        case.validate_response(answer, checks=(not_a_server_error,))
