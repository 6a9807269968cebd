"""Moving: versions are restored as they are, on a store of either kind, and live on there."""

import asyncio
import itertools

import pytest

from fhir_server.core.archive import Chain, format_line
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version, format_instant
from fhir_server.errors import InvalidResource, VersionConflict
from fhir_server.store.protocol import Extent, HistoryQuery, Routed
from tests.contract.world import World

EVERYTHING = 10**9
SEED = 11


def fill(driver, resources=120):
    """A store with updates, deletions, revivals and many resources in one moment."""
    world = World(SEED)
    for number in range(resources):
        if number % 3:
            driver.clock.advance(0.25)
        driver.write(world.resource())
        if number % 11 == 0:
            current = driver.run(driver.store.changes(0, EVERYTHING))[-1].key
            driver.delete(current)
    assert {v.interaction for v in feed(driver)} == {"create", "update", "delete"}


def feed(driver):
    return driver.run(driver.store.changes(0, EVERYTHING))


def restore(driver, versions, delivered=EVERYTHING, at_once=37):
    remaining = iter(versions)
    while batch := tuple(itertools.islice(remaining, at_once)):
        driver.run(driver.store.restore(batch, delivered))


def digest(driver):
    chain = Chain()
    for version in feed(driver):
        chain.add(format_line(version))
    return chain.digest


@pytest.fixture
def another(new_url, make_driver):
    """Makes empty stores of a kind."""
    made = []

    def make(kind):
        made.append(make_driver(new_url(kind)))
        return made[-1]

    yield make
    for driver in made:
        driver.close()


@pytest.mark.parametrize("other_kind", ["sqlite", "mongo"])
def test_there_and_back_gives_the_same_bytes_history_and_digest(
    driver, another, store_kind, other_kind
):
    fill(driver)
    there = another(other_kind)
    restore(there, feed(driver))
    back = another(store_kind)
    restore(back, feed(there), at_once=1_000)
    assert feed(back) == feed(there) == feed(driver)
    assert digest(back) == digest(there) == digest(driver)
    for moved in (there, back):
        assert moved.store.check().faults == ()
        for query in ("Observation?_sort=_lastUpdated", "Patient?family=ива", "Observation?code=a"):
            assert moved.ids(query) == driver.ids(query)
        assert moved.run(moved.store.history(HistoryQuery(count=1_000))) == driver.run(
            driver.store.history(HistoryQuery(count=1_000))
        )


def test_what_is_written_behind_goes_on_where_the_moved_store_ended(driver, another, store_kind):
    fill(driver)
    moved = another(store_kind)
    restore(moved, feed(driver))
    newest = feed(driver)[-1]
    # A clock that is behind the moved versions does not bring the order's time back.
    moved.clock.time = newest.last_updated.replace(year=2001)
    patient = {"resourceType": "Patient", "id": "1", "active": True}
    before = driver.read(ResourceKey("Patient", "1"))
    (written,) = moved.write(patient)
    assert written.version_id == (before.version_id + 1 if before else 1)
    last = feed(moved)[-1]
    assert last.sequence == newest.sequence + 1
    assert last.last_updated == newest.last_updated
    assert moved.store.check().faults == ()


def test_decisions_beside_a_restore_come_behind_it_in_time(driver, another, store_kind):
    fill(driver, 40)
    moved = another(store_kind)
    moved.clock.time = moved.clock.time.replace(year=2001)
    versions = feed(driver)

    async def scene():
        async def write(number):
            def decide(tx):
                return tx.now

            await moved.store.commit(decide)
            return number

        await asyncio.gather(
            moved.store.restore(versions, EVERYTHING), *(write(number) for number in range(20))
        )

    moved.run(scene())
    moved.write({"resourceType": "Device", "id": "behind"})
    assert feed(moved)[:-1] == versions
    assert moved.store.check().faults == ()


def test_a_restore_goes_on_where_it_was_interrupted_and_never_twice(driver, another, store_kind):
    fill(driver, 60)
    versions = feed(driver)
    moved = another(store_kind)
    restore(moved, versions[:30])
    assert moved.run(moved.store.extent()) == Extent(30, 30)
    for wrong in (versions[29:], versions[31:], versions[:30]):
        with pytest.raises(VersionConflict):
            moved.run(moved.store.restore(wrong, EVERYTHING))
    assert moved.run(moved.store.extent()) == Extent(30, 30)
    restore(moved, versions[30:])
    assert feed(moved) == versions


def test_a_batch_with_one_wrong_version_leaves_nothing(driver, another, store_kind):
    fill(driver, 60)
    versions = list(feed(driver))
    moved = another(store_kind)
    alive = next(n for n, v in enumerate(versions) if n > 5 and not v.is_deletion)
    skipping = [
        v._replace(version_id=v.version_id + 5) if n == alive else v for n, v in enumerate(versions)
    ]
    foreign = [
        v._replace(body=versions[0].body) if n == alive else v for n, v in enumerate(versions)
    ]
    earlier = [
        v._replace(last_updated=v.last_updated.replace(year=2000)) if n == len(versions) - 1 else v
        for n, v in enumerate(versions)
    ]
    for wrong in (skipping, foreign, earlier):
        with pytest.raises((VersionConflict, InvalidResource)):
            moved.run(moved.store.restore(wrong, EVERYTHING))
        assert moved.run(moved.store.extent()) == Extent(0, 0)
        assert moved.read(versions[0].key) is None
    restore(moved, versions)
    assert feed(moved) == tuple(versions)


def test_a_resource_is_never_restored_a_second_time_as_new(driver, another, store_kind):
    moved = another(store_kind)
    moved.write({"resourceType": "Patient", "id": "1"})
    (first,) = feed(moved)
    with pytest.raises(VersionConflict):
        moved.run(moved.store.restore([first._replace(sequence=2)], EVERYTHING))
    assert feed(moved) == (first,)


def test_moved_versions_are_not_delivered_again(driver, another, store_kind):
    fill(driver, 30)
    versions = feed(driver)
    moved = another(store_kind)
    restore(moved, versions)
    assert moved.outbox.fan_out(everything, 1_000) == 0
    moved.write({"resourceType": "Device", "id": "new"})
    assert moved.outbox.fan_out(everything, 1_000) == 1
    (claimed,) = moved.outbox.claim("sink", "me", 60, 1_000)
    assert claimed.sequence == len(versions) + 1


def everything(_version):
    return (Routed("sink", "all"),)


def test_what_was_not_delivered_can_be_delivered_from_the_new_place(driver, another, store_kind):
    fill(driver, 30)
    versions = feed(driver)
    moved = another(store_kind)
    restore(moved, versions, delivered=20, at_once=13)
    assert moved.run(moved.store.extent()) == Extent(len(versions), 20)
    assert moved.outbox.fan_out(everything, 1_000) == len(versions) - 20
    assert moved.store.check().faults == ()


def test_what_the_outbox_has_yet_to_look_at_is_not_passed_over(driver, another, store_kind):
    fill(driver, 30)
    versions = feed(driver)
    moved = another(store_kind)
    restore(moved, versions[:10], delivered=4)
    restore(moved, versions[10:])
    assert moved.run(moved.store.extent()) == Extent(len(versions), 4)


def test_a_body_may_not_say_another_version(driver):
    fill(driver, 10)
    version = feed(driver)[0]
    assert isinstance(version, Version)
    wrong = version.body.replace(format_instant(version.last_updated).encode(), b"2001-01-01")
    with pytest.raises(InvalidResource):
        driver.run(driver.store.restore([version._replace(body=wrong)], EVERYTHING))
