"""Moments: the pages, totals and chains of one search belong to one, until it is purged."""

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import Total
from fhir_server.errors import Gone


def patient(resource_id, **elements):
    return {"resourceType": "Patient", "id": resource_id, **elements}


def observation(resource_id, day, code="a", patient_id="p1"):
    return {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "code": {"coding": [{"system": "urn:c", "code": code}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": f"2024-03-{day:02}T10:00:00Z",
    }


SEARCHES = [
    "Observation?patient=p1&code=a&_sort=-date",
    "Observation?patient=p1&_sort=date",
    "Observation?code=a",
    "Observation?_sort=-date",
    "Observation?_sort=_lastUpdated",
    "Observation",
    "Observation?patient.gender=female",
    "Observation?code:not=b&_sort=-_id",
]


@pytest.mark.parametrize("search", SEARCHES)
def test_pages_do_not_shift_while_others_write(driver, search):
    driver.write(patient("p1", gender="female"))
    driver.write(*(observation(f"o{n:02}", n) for n in range(1, 21)))
    expected = driver.ids(search)
    assert len(expected) == 20
    page = driver.search(search, count=6, total=Total.ACCURATE)
    found = [v.key.resource_id for v in page.versions]
    step = 0
    while page.next is not None:
        # What is on later pages changes, goes, and comes.
        driver.write(observation(f"o{step + 7:02}", 28 - step, code="b"))
        driver.delete(ResourceKey("Observation", f"o{step + 14:02}"))
        driver.write(observation(f"new{step}", 1 + step), patient("p1", gender="male"))
        step += 1
        page = driver.search(
            search, count=6, total=Total.ACCURATE, after=page.next, as_of=page.as_of
        )
        assert page.total == 20
        found += [v.key.resource_id for v in page.versions]
    assert step == 3
    assert found == expected


def test_a_search_tells_its_moment(driver):
    driver.write(patient("p1"), patient("p2"))
    assert driver.search("Patient").as_of == 2
    driver.write(patient("p3"))
    assert driver.ids("Patient", as_of=2) == ["p1", "p2"]
    assert driver.search("Patient").as_of == 3


def test_a_moment_to_come_is_now(driver):
    driver.write(patient("p1"))
    assert driver.search("Patient", as_of=50).as_of == 1


def test_the_moments_before_a_purge_are_gone(driver):
    driver.write(patient("p1", gender="female"))
    driver.write(patient("p1", gender="male"))
    driver.clock.advance(60)
    driver.write(patient("p1", gender="other"))
    assert driver.ids("Patient?gender=female", as_of=1) == ["p1"]
    count = driver.run(driver.store.purge(driver.clock()))
    assert count == 1
    with pytest.raises(Gone):
        driver.search("Patient?gender=female", as_of=1)
    assert driver.ids("Patient?gender=male", as_of=2) == ["p1"]
    assert driver.ids("Patient?gender=other") == ["p1"]
    assert driver.ids("Patient?gender=female") == []


def test_a_purge_leaves_versions_and_history_and_nothing_wrong(driver):
    for n in range(5):
        driver.write(patient("p1", active=bool(n % 2)), observation("o1", n + 1))
    driver.delete(ResourceKey("Patient", "p1"))
    driver.clock.advance(60)
    driver.write(patient("p2"))
    assert driver.run(driver.store.purge(driver.clock())) > 0
    assert driver.run(driver.store.purge(driver.clock())) == 0
    key = ResourceKey("Patient", "p1")
    assert driver.run(driver.store.vread(key, 3)).body is not None
    assert driver.ids("Observation?patient=p1&_sort=-date") == ["o1"]
    assert driver.store.check().faults == ()


def test_a_store_in_order_has_no_faults(driver):
    driver.write(*(observation(f"o{n}", n + 1) for n in range(9)))
    driver.write(observation("o1", 28, code="b"))
    driver.delete(ResourceKey("Observation", "o2"))
    found = driver.store.check()
    assert found.faults == ()
    assert found.counts["versions"] == 11
    assert found.counts["current"] == 8
