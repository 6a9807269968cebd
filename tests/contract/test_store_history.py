"""History and changes: every version once, in commit order, deletions included."""

import asyncio
import random

import pytest

from fhir_server.core import date_range
from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.store.protocol import HistoryQuery

PATIENT = ResourceKey("Patient", "p1")


def patient(resource_id="p1", **elements):
    return {"resourceType": "Patient", "id": resource_id, **elements}


def history(driver, **query):
    return driver.run(driver.store.history(HistoryQuery(**query)))


def fill(driver):
    """p1 three times and a deletion, a device between; a second apart. Returns the times."""
    times = []
    steps = (
        lambda: driver.write(patient()),
        lambda: driver.write({"resourceType": "Device", "id": "d1"}),
        lambda: driver.write(patient(active=True)),
        lambda: driver.write(patient("p2")),
        lambda: driver.delete(PATIENT),
        lambda: driver.write(patient(active=False)),
    )
    for step in steps:
        times.append(driver.clock())
        step()
        driver.clock.advance(1)
    return times


def moment(when):
    start = date_range.from_datetime(when)
    return DateRange(start, start + 1)


def named(page):
    return [(v.key.resource_id, v.version_id, v.interaction) for v in page.versions]


def test_history_of_one_resource_is_newest_first_with_its_deletion(driver):
    fill(driver)
    page = history(driver, resource_type="Patient", resource_id="p1")
    assert named(page) == [
        ("p1", 4, "create"), ("p1", 3, "delete"), ("p1", 2, "update"), ("p1", 1, "create"),
    ]  # fmt: skip
    assert page.total == 4


def test_history_of_a_type_and_of_all(driver):
    fill(driver)
    assert [v.sequence for v in history(driver, resource_type="Patient").versions] == [
        6,
        5,
        4,
        3,
        1,
    ]
    assert [v.sequence for v in history(driver).versions] == [6, 5, 4, 3, 2, 1]


def test_history_of_what_never_was_is_empty(driver):
    fill(driver)
    assert history(driver, resource_type="Patient", resource_id="p9").versions == ()
    assert history(driver, resource_type="Group").versions == ()


def test_history_since_includes_that_moment(driver):
    times = fill(driver)
    assert [v.sequence for v in history(driver, since=times[3]).versions] == [6, 5, 4]
    later = times[3].replace(microsecond=1)
    assert [v.sequence for v in history(driver, since=later).versions] == [6, 5]


def test_history_at_a_moment_is_what_was_current_then(driver):
    times = fill(driver)
    assert [v.sequence for v in history(driver, at=moment(times[3])).versions] == [4, 3, 2]
    assert [v.sequence for v in history(driver, at=moment(times[4])).versions] == [5, 4, 2]
    assert history(driver, at=moment(times[0].replace(year=2000))).versions == ()


def test_history_at_a_stretch_of_time_is_all_that_was_current_within(driver):
    times = fill(driver)
    ends = [moment(when).start for when in times]

    def at(start, end):
        return [v.sequence for v in history(driver, at=DateRange(start, end)).versions]

    assert at(ends[1], ends[3]) == [3, 2, 1]
    assert at(ends[1] + 500_000, ends[4] + 1) == [5, 4, 3, 2, 1]
    assert at(ends[2], ends[2] + 1) == [3, 2]
    assert at(ends[5] + 9_000_000, ends[5] + 10_000_000) == [6, 4, 2]
    assert at(date_range.EARLIEST, ends[0]) == []
    assert at(date_range.EARLIEST, date_range.LATEST) == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("scope", [{}, {"resource_type": "Patient"},
                                   {"resource_type": "Patient", "resource_id": "p1"}])  # fmt: skip
def test_oldest_first_is_the_other_way_round_there_and_back(driver, scope):
    fill(driver)
    newest_first = history(driver, **scope).versions
    pages = [history(driver, **scope, count=2, is_oldest_first=True)]
    assert pages[0].previous is None
    while (last := pages[-1]).next is not None:
        pages.append(
            history(
                driver, **scope, count=2, is_oldest_first=True, as_of=last.as_of,
                after=last.next.sequence,
            )
        )  # fmt: skip
    assert tuple(v for page in pages for v in page.versions) == newest_first[::-1]
    back = pages[-1]
    for each in reversed(pages[:-1]):
        back = history(
            driver, **scope, count=2, is_oldest_first=True, before=back.previous.sequence
        )
        assert back.versions == each.versions
        assert back.next is not None
    assert back.previous is None


def test_pages_of_history_belong_to_one_moment(driver):
    for n in range(10):
        driver.write(patient(f"p{n}"))
    page = history(driver, count=4)
    found = [v.sequence for v in page.versions]
    while page.next is not None:
        driver.write(patient("p3", active=True))
        page = history(driver, count=4, before=page.next.sequence, as_of=page.as_of)
        assert page.total == 10
        found += [v.sequence for v in page.versions]
    assert found == list(range(10, 0, -1))


def test_history_pages_end_when_the_last_is_full(driver):
    for n in range(4):
        driver.write(patient(f"p{n}"))
    page = history(driver, count=2)
    page = history(driver, count=2, before=page.next.sequence, as_of=page.as_of)
    assert len(page.versions) == 2
    assert page.next is None


def test_a_count_of_none_gives_the_total(driver):
    fill(driver)
    page = history(driver, count=0)
    assert (page.versions, page.total, page.next) == ((), 6, None)


def test_changes_are_in_commit_order_without_a_gap(driver, write):
    rng = random.Random(7)

    def decide(tx):
        for n in rng.sample(range(30), 3):
            write(tx, patient(f"p{n}"))
        if rng.random() < 0.3:
            raise RuntimeError("of its own")

    async def many():
        await asyncio.gather(
            *(driver.store.commit(decide) for _ in range(40)), return_exceptions=True
        )

    driver.run(many())
    followed, position = [], 0
    while batch := driver.run(driver.store.changes(position, 7)):
        followed += batch
        position = batch[-1].sequence
    assert [version.sequence for version in followed] == list(range(1, len(followed) + 1))
    times = [version.last_updated for version in followed]
    assert times == sorted(times)
    last = {}
    for version in followed:
        assert version.version_id == last.get(version.key, 0) + 1
        last[version.key] = version.version_id
