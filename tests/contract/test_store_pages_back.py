"""Pages back: whatever the order, the page before a page is the one that led to it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import Cursor, Query
from fhir_server.store.protocol import HistoryQuery, Page
from tests.contract.scene import Scene, play, searches


@pytest.fixture(scope="module")
def scene(store_kind, new_url, make_driver, indexer) -> Iterator[Scene]:
    driver = make_driver(new_url(store_kind))
    yield play(driver, indexer, 11)
    driver.close()


def forward(scene: Scene, query: Query) -> list[Page]:
    pages = [scene.search(query)]
    while (following := pages[-1].next) is not None:
        pages.append(scene.search(query._replace(after=following)))
    return pages


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=searches(), count=st.sampled_from([1, 3, 7]))
def test_the_way_back_through_a_search_is_the_way_there(scene, text, count):
    query = scene.query(text)._replace(as_of=max(scene.moments), count=count)
    pages = forward(scene, query)
    assert pages[0].previous is None
    for page in pages:
        assert [cursor.sequence for cursor in page.cursors] == [v.sequence for v in page.versions]
    way_back = [pages[-1]]
    while (previous := way_back[-1].previous) is not None:
        way_back.append(scene.search(query._replace(before=previous)))
    assert [page.versions for page in reversed(way_back)] == [page.versions for page in pages]
    for page, behind in zip(way_back[1:], way_back, strict=False):
        assert page.next is not None
        again = scene.search(query._replace(after=page.next))
        assert again.versions == behind.versions


@pytest.mark.parametrize(
    "search",
    [
        "Observation?patient=p1&_sort=date",
        "Observation?patient=p1&_sort=-date",
        "Observation?patient=p1&code=a&_sort=-date",
        "Observation?_sort=date",
        "Observation?_sort=-date",
        "Observation?_sort=-_lastUpdated",
        "Observation?status=final",
        "Observation?_sort=status,-date",
    ],
)
def test_dates_and_none_and_several_are_passed_both_ways(driver, search):
    for number in range(17):
        observation = {
            "resourceType": "Observation",
            "id": f"o{number}",
            "status": "final" if number % 3 else "amended",
            "code": {"coding": [{"system": "urn:c", "code": "ab"[number % 2]}]},
            "subject": {"reference": "Patient/p1"},
        }
        if number % 5 == 1:
            observation["effectivePeriod"] = {"start": f"2024-0{1 + number % 4}"}
        elif number % 5 < 4:
            observation["effectiveDateTime"] = f"2024-03-{1 + number % 7:02}T10:00:00Z"
        driver.write(observation)
    query = driver.query(search)._replace(count=4)
    first = driver.run(driver.store.search(query))
    query = query._replace(as_of=first.as_of)
    pages = [first]
    while (following := pages[-1].next) is not None:
        pages.append(driver.run(driver.store.search(query._replace(after=following))))
    assert len(pages) > 2
    back = pages[-1]
    for page in reversed(pages[:-1]):
        back = driver.run(driver.store.search(query._replace(before=back.previous)))
        assert back.versions == page.versions
    assert back.previous is None


@pytest.mark.parametrize("scope", [{}, {"resource_type": "Patient"},
                                   {"resource_type": "Patient", "resource_id": "p1"}])  # fmt: skip
def test_the_way_back_through_a_history_is_the_way_there(driver, scope):
    for number in range(9):
        driver.write({"resourceType": "Patient", "id": "p1", "active": bool(number % 2)})
        driver.write({"resourceType": "Device", "id": f"d{number}"})
    driver.delete(ResourceKey("Patient", "p1"))

    def page(**more):
        return driver.run(driver.store.history(HistoryQuery(**scope, count=3, **more)))

    pages = [page()]
    assert pages[0].previous is None
    while pages[-1].next is not None:
        pages.append(page(before=pages[-1].next.sequence))
    assert len(pages) > 2
    back = pages[-1]
    for each in reversed(pages[:-1]):
        assert isinstance(back.previous, Cursor)
        back = page(after=back.previous.sequence)
        assert back.versions == each.versions
        assert back.total == each.total
        assert back.next is not None
    assert back.previous is None
