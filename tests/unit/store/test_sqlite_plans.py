"""Whichever way a search is run, it finds the same.

Here pages are walked that would be sorted as they have few matches, and few names are
already too many to be looked up one by one.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.core.search import match
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.query import Total
from fhir_server.definitions import load
from fhir_server.store.sqlite import criteria, resolve, timeline
from fhir_server.store.sqlite.store import SqliteStore
from tests.contract.conftest import Clock, Driver
from tests.contract.scene import Scene, pages, play, searches


@pytest.fixture(scope="module", params=((0, 16), (5, 16), (0, 1), (500, 1)), ids=str)
def scene(request) -> Iterator[Scene]:
    sort_limit, many = request.param
    patch = pytest.MonkeyPatch()
    for module in (resolve, timeline):
        patch.setattr(module, "MANY", many)
    patch.setattr(criteria, "NAMED", many)
    patch.setattr(resolve, "_FEW_TEXTS", many)
    definitions = load()
    indexer = Indexer(definitions.parameters, definitions.element_types, "Europe/Moscow")
    clock = Clock()
    with asyncio.Runner() as runner:
        driver = Driver(
            lambda: SqliteStore(
                None, indexer.index, definitions.parameters, clock, sort_limit=sort_limit
            ),
            runner,
            clock,
            definitions,
        )
        yield play(driver, indexer, 7)
        driver.close()
    patch.undo()


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=searches(), number=st.integers(0, 2), count=st.sampled_from([1, 4, 500]))
def test_every_plan_finds_what_the_oracle_does(scene, text, number, count):
    moment = list(scene.moments)[number]
    query = scene.query(text)._replace(as_of=moment, count=count, total=Total.ACCURATE)
    expected = match.search(query, lambda name: scene.moments[moment].get(name, []))
    found, totals = pages(scene, query)
    assert [str(v.key) for v in found] == [str(v.key) for v in expected]
    assert totals == {len(expected)}
