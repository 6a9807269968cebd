"""The order by date or by a string over a whole type is the oracle's, however it is read."""

from urllib.parse import urlencode

import pytest

from fhir_server.core.search import match
from fhir_server.store.mongo import date_walk
from tests.contract.scene import TOKENS, pages, play


@pytest.fixture(scope="module")
def scene(store_kind, new_url, make_driver, indexer):
    driver = make_driver(new_url(store_kind))
    yield play(driver, indexer, 7)
    driver.close()


@pytest.mark.parametrize("order", ["date", "-date"])
@pytest.mark.parametrize(
    "criteria", [{}, {"code": TOKENS[0]}, {"date": "ge2024-03"}, {"status:not": "x"}]
)
def test_many_are_walked_in_the_order_of_their_dates(scene, monkeypatch, order, criteria):
    monkeypatch.setattr(date_walk, "MANY", 2)
    moment = max(scene.moments)
    query = scene.query(f"Observation?{urlencode({**criteria, '_sort': order})}")
    for count in (1, 4, 100):
        asked = query._replace(as_of=moment, count=count)
        expected = match.search(asked, lambda kind: scene.moments[moment].get(kind, []))
        found, _ = pages(scene, asked)
        assert [v.key for v in found] == [v.key for v in expected]


@pytest.mark.parametrize("order", ["family", "-family", "name"])
@pytest.mark.parametrize("criteria", [{}, {"gender": "female"}, {"family": "M"}])
def test_many_are_walked_in_the_order_of_their_names(scene, monkeypatch, order, criteria):
    monkeypatch.setattr(date_walk, "MANY", 2)
    moment = max(scene.moments)
    query = scene.query(f"Patient?{urlencode({**criteria, '_sort': order})}")
    for count in (1, 2, 4, 100):
        asked = query._replace(as_of=moment, count=count)
        expected = match.search(asked, lambda kind: scene.moments[moment].get(kind, []))
        found, _ = pages(scene, asked)
        assert [v.key for v in found] == [v.key for v in expected]


def test_names_that_begin_alike_for_long_are_in_order(driver, monkeypatch):
    monkeypatch.setattr(date_walk, "MANY", 2)
    long = "a" * 60
    families = [[f"{long}{n}", f"{long}{(n * 7) % 20}"] for n in range(20)]
    driver.write(
        *(
            {"resourceType": "Patient", "id": f"p{n}", "name": [{"family": f} for f in each]}
            for n, each in enumerate(families)
        )
    )
    query = driver.query("Patient?_sort=family&_count=3")
    found, page = [], driver.run(driver.store.search(query))
    found += page.versions
    while page.next is not None:
        page = driver.run(driver.store.search(query._replace(after=page.next, as_of=page.as_of)))
        found += page.versions
    expected = sorted(range(20), key=lambda n: (min(families[n]), n))
    assert [v.key.resource_id for v in found] == [f"p{n}" for n in expected]
