"""Search against the oracle: for generated resources and queries a store returns what
`core.search.match` does, in its order, page by page, as of any moment."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.core.search import match
from fhir_server.core.search.query import Restriction, Total
from tests.contract.scene import CRITERIA, RULES, Scene, pages, play, searches
from tests.faults.kit import SCALE


@pytest.fixture(scope="module", params=range(3), ids="world{}".format)
def scene(request, store_kind, new_url, make_driver, indexer) -> Iterator[Scene]:
    driver = make_driver(new_url(store_kind))
    yield play(driver, indexer, request.param)
    driver.close()


@settings(
    max_examples=int(120 * SCALE),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=searches(), number=st.integers(0, 2), count=st.sampled_from([1, 3, 7, 500]))
def test_a_search_is_what_the_oracle_finds(scene, text, number, count):
    moment = list(scene.moments)[number]
    query = scene.query(text)._replace(as_of=moment, count=count, total=Total.ACCURATE)
    expected = match.search(query, lambda name: scene.moments[moment].get(name, []))
    found, totals = pages(scene, query)
    assert [str(v.key) for v in found] == [str(v.key) for v in expected]
    assert [v.version_id for v in found] == [v.version_id for v in expected]
    assert totals == {len(expected)}


def test_each_criterion_alone_is_what_the_oracle_finds(scene):
    moment = max(scene.moments)
    everything = scene.moments[moment]
    wrong = []
    for resource_type, criteria in CRITERIA.items():
        for name, values in criteria.items():
            for value in values[:30]:
                query = scene.query(f"{resource_type}?{urlencode([(name, value)])}")
                query = query._replace(as_of=moment, count=500)
                expected = match.search(query, lambda kind: everything.get(kind, []))
                found = scene.search(query).versions
                if [v.key for v in found] != [v.key for v in expected]:
                    wrong.append((resource_type, name, value))
    assert not wrong


@settings(
    max_examples=int(40 * SCALE),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=searches(), rules=st.sets(st.sampled_from(list(RULES))))
def test_a_restriction_hides_from_matches_chains_has_and_totals(scene, text, rules):
    hidden = tuple((name, scene.query(f"{name}?{RULES[name]}").criteria) for name in rules)
    query = scene.query(text)._replace(
        as_of=max(scene.moments), count=5, total=Total.ACCURATE, restriction=Restriction(hidden)
    )
    expected = match.search(query, lambda name: scene.moments[query.as_of].get(name, []))
    found, totals = pages(scene, query)
    assert [str(v.key) for v in found] == [str(v.key) for v in expected]
    assert totals == {len(expected)}
