"""Who counts commits is told of each group once, and can break nothing."""

import asyncio
import time

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.errors import PreconditionFailed


def patient(resource_id):
    return {"resourceType": "Patient", "id": resource_id}


def settled(groups, versions):
    """The groups, once they hold so many versions: observers are told after the caller."""
    deadline = time.monotonic() + 5
    while sum(group.versions for group in groups) < versions and time.monotonic() < deadline:
        time.sleep(0.01)
    return groups


def test_every_version_is_in_one_observed_group(driver, write):
    groups = []
    driver.store.observe(groups.append)

    def decide(number):
        return lambda tx: [write(tx, patient(f"p{number}-{part}")) for part in "ab"]

    async def commit_all():
        await asyncio.gather(*(driver.store.commit(decide(number)) for number in range(20)))

    driver.run(commit_all())
    settled(groups, 40)
    assert sum(group.versions for group in groups) == 40
    assert 1 <= len(groups) <= 20
    assert sum(group.decisions for group in groups) == 20
    assert all(group.seconds > 0 for group in groups)


def test_what_failed_or_only_read_is_no_committed_version(driver, write):
    groups = []
    driver.store.observe(groups.append)

    def fail(tx):
        write(tx, patient("p1"))
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        driver.commit(fail)
    driver.commit(lambda tx: tx.read(ResourceKey("Patient", "p1")))
    driver.commit(lambda tx: write(tx, patient("p2")))
    assert sum(group.versions for group in settled(groups, 1)) == 1


def test_an_observer_that_fails_stops_no_commit(driver, write, caplog):
    def fail(_group):
        raise RuntimeError("cannot count")

    driver.store.observe(fail)
    for number in range(3):
        driver.commit(lambda tx, number=number: write(tx, patient(f"p{number}")))
    assert len(driver.ids("Patient")) == 3
    assert "an observer of commits failed" in caplog.text
