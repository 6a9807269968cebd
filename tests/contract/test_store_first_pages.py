"""First pages, which are remembered: they say what a search of that moment says."""

import random

import pytest

from fhir_server.core.identity import ResourceKey

SEARCHES = (
    "Observation?patient=Patient/a&code=urn:s|bp&_sort=-date&_count=3",
    "Observation?patient=Patient/a&code=urn:s|bp&_sort=date&_count=3",
    "Observation?patient=Patient/a&code=urn:s|bp&date=ge2024-02&date=lt2024-05&_sort=-date",
    "Observation?patient=Patient/a&_sort=-date&_count=4",
    "Observation?device=Device/d&_sort=-date&_count=4",
)
# Narrow, wide, unbounded and none.
DATES = (
    {"effectiveDateTime": "2024-03-05T10:00:00Z"},
    {"effectiveDateTime": "2024-03"},
    {"effectivePeriod": {"start": "2024-02-01", "end": "2024-06-01"}},
    {"effectivePeriod": {"start": "2024-01-15"}},
    {},
)


def observation(number, date, code="bp"):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "urn:s", "code": code}]},
        "subject": {"reference": "Patient/a"},
        "device": {"reference": "Device/d"},
        **date,
    }


def agree(driver, query, expected):
    """What is shown at once, if anything is, is what was searched for."""
    shown = driver.run(driver.store.first_page(query))
    if shown is not None:
        assert list(shown.bodies) == [v.body for v in expected.versions]
        assert (shown.as_of, shown.next) == (expected.as_of, expected.next)


def check(driver):
    for text in SEARCHES:
        page = driver.search(text)
        again = driver.search(text)
        # A page of a given moment is never taken from what is remembered.
        expected = driver.search(text, as_of=page.as_of)
        for found in (page, again):
            assert [(v.key, v.version_id, v.body) for v in found.versions] == [
                (v.key, v.version_id, v.body) for v in expected.versions
            ]
            assert found == expected
        agree(driver, driver.query(text), expected)


@pytest.mark.parametrize("seed", range(4))
def test_a_first_page_is_of_the_moment_it_is_asked_for(driver, seed):
    chance = random.Random(seed)
    check(driver)
    for step in range(30):
        number = chance.randrange(10)
        if chance.random() < 0.2:
            key = ResourceKey("Observation", f"o{number}")
            if (current := driver.read(key)) is not None and not current.is_deletion:
                driver.delete(key)
        else:
            # At first such dates alone as the shortest way is for.
            dates = DATES[:1] if step < 10 else DATES
            day = {"effectiveDateTime": f"2024-0{chance.randint(1, 6)}-1{chance.randint(0, 9)}"}
            date = chance.choice((*dates, day, day))
            driver.write(observation(number, date, chance.choice(("bp", "bp", "other"))))
        check(driver)


PREFIXES = ("", "ge", "gt", "le", "lt", "ne", "sa", "eb")


@pytest.mark.parametrize("seed", range(3))
def test_searches_of_one_shape_are_each_about_their_own(driver, seed):
    chance = random.Random(seed)

    def made(number):
        date = {"effectiveDateTime": f"2024-0{chance.randint(1, 6)}-1{chance.randint(0, 9)}"}
        code = chance.choice(("bp", "other"))
        whom = {"subject": {"reference": f"Patient/{chance.choice('abc')}"}}
        return observation(number, date, code) | whom

    driver.write(*(made(number) for number in range(60)))
    for _ in range(120):
        dates = "".join(
            f"&date={chance.choice(PREFIXES)}2024-0{chance.randint(1, 6)}-1{chance.randint(0, 9)}"
            for _ in range(chance.randrange(3))
        )
        text = (
            f"Observation?patient=Patient/{chance.choice('abcd')}"
            f"&code=urn:s|{chance.choice(('bp', 'other', 'none'))}{dates}"
            f"&_sort={chance.choice(('', '-'))}date&_count={chance.choice((1, 5, 50))}"
        )
        as_of = driver.search("Observation").as_of
        expected = driver.search(text, as_of=as_of)
        agree(driver, driver.query(text), expected)
        assert driver.search(text) == expected


def test_a_page_link_goes_on_where_a_remembered_page_ends(driver):
    driver.write(*(observation(n, {"effectiveDateTime": f"2024-03-1{n}"}) for n in range(8)))
    for _ in range(2):
        first = driver.search(SEARCHES[0])
        assert [v.key.resource_id for v in first.versions] == ["o7", "o6", "o5"]
        second = driver.search(SEARCHES[0], after=first.next, as_of=first.as_of)
        assert [v.key.resource_id for v in second.versions] == ["o4", "o3", "o2"]
        back = driver.search(SEARCHES[0], before=second.previous, as_of=first.as_of)
        assert [v.key for v in back.versions] == [v.key for v in first.versions]


def test_a_first_page_is_found_after_all_was_indexed_anew(driver):
    driver.write(*(observation(n, {"effectiveDateTime": f"2024-03-1{n}"}) for n in range(5)))
    check(driver)
    driver.run(driver.store.reindex())
    check(driver)
    driver.write(observation(9, {"effectiveDateTime": "2024-04-01"}))
    assert driver.ids(SEARCHES[0])[0] == "o9"
    check(driver)
