"""What subscriptions need of the outbox: numbers that stay, who waits, and news of a type."""

import asyncio
import threading

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.errors import PreconditionFailed
from fhir_server.store.protocol import Routed


def patient(resource_id, **elements):
    return {"resourceType": "Patient", "id": resource_id, **elements}


def told(driver, *ids, sink=lambda resource_id: f"Subscription/{resource_id[0]}"):
    """Write a patient a commit, and make its delivery to a sink that its id names."""
    for resource_id in ids:
        driver.write(patient(resource_id))
    while driver.outbox.fan_out(lambda v: (Routed(sink(v.key.resource_id), "events"),), 100):
        pass


def test_deliveries_of_a_sink_are_numbered_in_commit_order(driver):
    told(driver, "a1", "b1", "a2", "b2", "a3")
    outbox = driver.outbox
    assert [outbox.made(f"Subscription/{name}") for name in "abc"] == [3, 2, 0]
    assert [d.key.resource_id for d in outbox.numbered("Subscription/a", 1, 10)] == [
        "a1",
        "a2",
        "a3",
    ]
    assert [d.key.resource_id for d in outbox.numbered("Subscription/a", 2, 1)] == ["a2"]
    assert outbox.numbered("Subscription/a", 4, 10) == ()
    assert outbox.numbered("Subscription/c", 1, 10) == ()
    for place, delivery in enumerate(outbox.numbered("Subscription/b", 1, 10), 1):
        assert outbox.made("Subscription/b", 0, delivery.sequence) == place


def test_a_number_stays_whatever_becomes_of_the_delivery(driver):
    told(driver, "a1", "a2", "a3")
    outbox = driver.outbox
    first, second, third = outbox.claim("Subscription/a", "w", 30, 10)
    outbox.acknowledge([first], "w", "ok")
    outbox.park([second], "w", "no")
    outbox.defer([third], "w", 10, "later")
    told(driver, "a4")
    numbered = driver.open_another().outbox.numbered("Subscription/a", 1, 10)
    assert [d.key.resource_id for d in numbered] == ["a1", "a2", "a3", "a4"]
    assert outbox.made("Subscription/a", first.sequence, third.sequence) == 2


def test_sinks_with_something_due_are_told_by_the_beginning_of_their_name(driver):
    told(driver, "a1", "b1")
    told(driver, "c1", sink=lambda _: "registry")
    outbox = driver.outbox
    assert outbox.waiting("Subscription/") == ("Subscription/a", "Subscription/b")
    assert outbox.waiting("Subscription/b") == ("Subscription/b",)
    assert outbox.waiting("Sub%") == ()
    claimed = outbox.claim("Subscription/a", "w", 30, 10)
    assert outbox.waiting("Subscription/") == ("Subscription/b",)
    driver.clock.advance(31)
    assert outbox.waiting("Subscription/") == ("Subscription/a", "Subscription/b")
    outbox.acknowledge(claimed, "w", "ok")
    assert outbox.waiting("Subscription/") == ("Subscription/b",)


def test_changes_of_a_type_come_with_the_newest_sequence(driver):
    told(driver, "a1")
    driver.write({"resourceType": "Device", "id": "d1"})
    told(driver, "a2")
    newest, found = driver.outbox.changes(0, ("Device",))
    assert newest == 3
    assert [version.key for version in found] == [("Device", "d1")]
    assert driver.outbox.changes(newest, ("Device",)) == (3, ())
    assert [v.sequence for v in driver.outbox.changes(1, ("Device", "Patient"))[1]] == [2, 3]


def test_a_thread_commits_decisions_beside_the_loop(driver):
    key = ResourceKey("Patient", "p1")

    def decide(tx):
        version, resource = next_version(tx.read(key), key, patient("p1"), tx.now)
        tx.put(version, resource)
        return version.version_id

    async def both():
        blocking = asyncio.to_thread(driver.outbox.commit, decide)
        return sorted(await asyncio.gather(blocking, driver.store.commit(decide)))

    assert driver.run(both()) == [1, 2]
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(driver.outbox.commit(decide)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(3, 11))


def test_a_thread_is_told_why_a_decision_failed(driver):
    def refuse(_tx):
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        driver.outbox.commit(refuse)
    assert driver.outbox.changes(0, ("Patient",)) == (0, ())
