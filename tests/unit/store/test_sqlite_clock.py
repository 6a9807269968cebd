"""How long a search may take: work at once, waiting within reason."""

import sqlite3
import time

import pytest

from fhir_server.errors import TooCostly
from fhir_server.store.sqlite.reader import Clocked

_BUDGET = 0.02

_LONG = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    "SELECT sum(i) FROM n"
)


@pytest.fixture(name="clocked")
def make_clocked():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield Clocked(connection)
    connection.close()


def wait_then_work(connection):
    time.sleep(2 * _BUDGET)
    return connection.execute(_LONG.format(1_000)).fetchone()


def test_time_that_others_had_is_not_taken_for_work(clocked):
    assert clocked.run(wait_then_work, _BUDGET, is_patient=True) == (500_500,)


def test_without_patience_time_is_time(clocked):
    with pytest.raises(TooCostly):
        clocked.run(wait_then_work, _BUDGET)


@pytest.mark.parametrize("is_patient", [True, False])
def test_work_over_the_budget_is_interrupted(clocked, is_patient):
    begun = time.thread_time()
    with pytest.raises(TooCostly):
        clocked.run(
            lambda c: c.execute(_LONG.format(10**9)).fetchone(), _BUDGET, is_patient=is_patient
        )
    assert time.thread_time() - begun < 20 * _BUDGET


def test_waiting_ends_too(clocked):
    def wait(connection):
        for _ in range(40):
            time.sleep(_BUDGET)
            connection.execute(_LONG.format(1_000)).fetchone()

    with pytest.raises(TooCostly):
        clocked.run(wait, _BUDGET, is_patient=True)
