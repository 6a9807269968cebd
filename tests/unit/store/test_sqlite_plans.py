"""Whichever way a search is run, it finds the same: here every page is walked, none sorted."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.core.search import match
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.query import Total
from fhir_server.definitions import load
from fhir_server.store.sqlite.store import SqliteStore
from tests.contract.conftest import Clock, Driver
from tests.contract.scene import Scene, pages, play, searches


@pytest.fixture(scope="module", params=(0, 5), ids="sorting-{}".format)
def scene(request) -> Iterator[Scene]:
    definitions = load()
    indexer = Indexer(definitions.parameters, definitions.element_types, "Europe/Moscow")
    clock = Clock()
    with asyncio.Runner() as runner:
        driver = Driver(
            lambda: SqliteStore(
                None, indexer.index, definitions.parameters, clock, sort_limit=request.param
            ),
            runner,
            clock,
            definitions,
        )
        yield play(driver, indexer, 7)
        driver.close()


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=searches(), number=st.integers(0, 2), count=st.sampled_from([1, 4, 500]))
def test_a_walked_page_is_what_the_oracle_finds(scene, text, number, count):
    moment = list(scene.moments)[number]
    query = scene.query(text)._replace(as_of=moment, count=count, total=Total.ACCURATE)
    expected = match.search(query, lambda name: scene.moments[moment].get(name, []))
    found, totals = pages(scene, query)
    assert [str(v.key) for v in found] == [str(v.key) for v in expected]
    assert totals == {len(expected)}
