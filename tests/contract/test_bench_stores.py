"""The benchmark on both stores: fills go on, and each yardstick stores what it is said to."""

import asyncio
import os

import pytest

from bench import fill, filled
from bench.measure import Pace
from bench.own import Plan, measure_own
from bench.readings import Population
from bench.result import Row
from fhir_server.app import open_components
from fhir_server.settings import Settings
from tests.provision.mongod import NotToBeHad, find_binary


@pytest.fixture(params=["sqlite", "mongo"])
def kind(request):
    if request.param == "mongo":
        try:
            find_binary()
        except NotToBeHad as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"MongoDB is needed: {error}")
            pytest.skip(f"no MongoDB: {error}")
    return request.param


class Interrupted(Exception):
    pass


def interrupt(reached):
    if reached:
        raise Interrupted


async def versions(url):
    store = open_components(Settings(store=url)).store
    try:
        return await store.changes(0, 10_000)
    finally:
        await store.close()


def test_an_interrupted_fill_goes_on_where_it_stopped(kind, tmp_path):
    population = Population(1_000)
    with filled.opened(kind, tmp_path) as store:
        with pytest.raises(Interrupted):
            fill.fill(store.url, population, interrupt)
        between = asyncio.run(versions(store.url))
        fill.fill(store.url, population, lambda _: None)
        found = asyncio.run(versions(store.url))
    wanted = tuple(fill.version(n, population) for n in range(1, fill.size(population) + 1))
    assert 0 < len(between) < len(wanted)
    assert found == wanted


def test_loads_are_measured_beside_their_yardsticks(kind, tmp_path):
    plan = Plan(
        stores=(kind,),
        sizes=(1_000,),
        pace=Pace(0.1, (1,), (1,)),
        ingested=1_000,
        grown=0,
        burst=0,
        only=("newest 20", "against raw"),
        cache=tmp_path,
    )
    rows = list(measure_own(plan, lambda _: None))
    assert [row for row in rows if not isinstance(row, Row)] == []
    by_load = {row.load: row for row in rows}
    against = {
        load: [each.against.split(",")[0] for each in row.comparisons]
        for load, row in by_load.items()
    }
    assert against["search: patient, code, date, newest 20"] == ["bare route", "bare lookups"]
    assert against["readings, 500 a request, against raw inserts"][0] == "raw inserts"
    measured = by_load["readings, 500 a request, against raw inserts"]
    assert measured.server_megabytes > 10
    assert (measured.database_megabytes is None) == (kind == "sqlite")
    # What was written to was a copy.
    with filled.opened(kind, tmp_path / f"{kind}-1000") as store:
        kept = asyncio.run(versions(store.url))
    assert len(kept) == fill.size(Population(1_000))
