"""The order by date over all patients is the oracle's, however it is read."""

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
