"""The outbox: each version to each sink that wants it, in order, at least once, told about."""

import threading
from collections import Counter

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.store.protocol import DeliveryState, Routed

QUEUED, SENT, ACCEPTED, PARKED, SUPERSEDED, *_ = DeliveryState


def patient(resource_id="p1", **elements):
    return {"resourceType": "Patient", "id": resource_id, **elements}


def to_registry(version):
    return (Routed("registry", version.key.resource_id),)


def fan_out(driver, route=to_registry):
    while driver.outbox.fan_out(route, 100):
        pass


def written(driver, *ids):
    """Write patients, one commit each, and make their deliveries."""
    for number, resource_id in enumerate(ids):
        driver.write(patient(resource_id, active=number % 2 == 0))
    fan_out(driver)


def claim(driver, owner="worker", lease=30.0, limit=10):
    return driver.outbox.claim("registry", owner, lease, limit)


def states(driver):
    found = driver.outbox.list(None, (), 1000, 0)
    return [(d.key.resource_id, d.version_id, d.state) for d in found]


@pytest.fixture(autouse=True)
def counted(driver):
    """Whatever a test did, the counts are those of the deliveries, and the store is sound."""
    yield
    every = driver.outbox.list(None, (), 10_000, 0)
    assert driver.outbox.counts() == Counter((each.sink, each.state) for each in every)
    assert driver.store.check().faults == ()


def test_each_version_is_routed_once_and_in_order(driver):
    looked_at = []

    def route(version):
        looked_at.append(version.sequence)
        return to_registry(version) if version.key.resource_type == "Patient" else ()

    driver.write(patient("p1"), {"resourceType": "Device", "id": "d1"}, patient("p2"))
    assert driver.outbox.fan_out(route, 2) == 2
    assert driver.outbox.fan_out(route, 2) == 1
    assert driver.outbox.fan_out(route, 2) == 0
    assert looked_at == [1, 2, 3]
    assert states(driver) == [("p1", 1, QUEUED), ("p2", 1, QUEUED)]


def test_a_version_goes_to_every_sink_that_wants_it(driver):
    driver.write(patient())
    fan_out(driver, lambda version: (Routed("a", "g"), Routed("b", "g")))
    assert driver.outbox.counts() == {("a", QUEUED): 1, ("b", QUEUED): 1}
    assert len(driver.outbox.claim("a", "w", 30, 10)) == 1
    assert len(driver.outbox.claim("b", "w", 30, 10)) == 1
    assert driver.outbox.claim("c", "w", 30, 10) == ()


def test_workers_that_fan_out_at_once_make_each_delivery_once(driver):
    driver.write(*(patient(f"p{n}") for n in range(60)))
    outboxes = (driver.outbox, driver.open_another().outbox)

    def work(outbox):
        for _ in range(60):
            outbox.fan_out(to_registry, 3)

    threads = [threading.Thread(target=work, args=(outboxes[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fan_out(driver)
    assert [name for name, _, _ in states(driver)] == [f"p{n}" for n in range(60)]


def test_a_claim_takes_one_group_and_leases_it(driver):
    written(driver, "a", "b", "a")
    (first,) = claim(driver)
    assert (first.key.resource_id, first.version_id, first.state) == ("a", 1, SENT)
    assert first.attempts == 1
    (second,) = claim(driver)
    assert second.key.resource_id == "b"
    assert claim(driver) == ()


def test_a_claim_gives_no_more_than_its_limit(driver):
    driver.write(*(patient(f"p{n}") for n in range(5)))
    fan_out(driver, lambda version: (Routed("registry", "all"),))
    found = claim(driver, limit=3)
    assert [d.sequence for d in found] == [1, 2, 3]
    assert [d.sequence for d in claim(driver, limit=3)] == [4, 5]


def test_a_later_version_waits_for_the_earlier_one(driver):
    written(driver, "a", "a", "a")
    for version_id in (1, 2, 3):
        (found,) = claim(driver)
        assert found.version_id == version_id
        assert claim(driver) == ()
        driver.outbox.acknowledge([found], "worker", "ok")
    assert claim(driver) == ()


def test_a_deferred_version_still_comes_before_the_later_one(driver):
    written(driver, "a", "a")
    (found,) = claim(driver)
    driver.outbox.defer([found], "worker", 60, "away")
    assert claim(driver) == ()
    driver.clock.advance(61)
    (again,) = claim(driver)
    assert (again.delivery_id, again.version_id, again.attempts) == (found.delivery_id, 1, 2)


def test_an_acknowledged_delivery_is_not_claimed_again(driver):
    written(driver, "a")
    found = claim(driver)
    driver.outbox.acknowledge(found, "worker", "receipt-7")
    driver.clock.advance(1000)
    assert claim(driver) == ()
    delivery, _ = driver.outbox.show(found[0].delivery_id)
    assert (delivery.state, delivery.receipt) == (ACCEPTED, "receipt-7")


def test_a_lease_that_ran_out_is_another_workers(driver):
    written(driver, "a")
    found = claim(driver, owner="slow", lease=30)
    driver.clock.advance(29)
    assert claim(driver, owner="fast") == ()
    driver.clock.advance(2)
    (taken,) = claim(driver, owner="fast")
    assert (taken.delivery_id, taken.attempts) == (found[0].delivery_id, 2)
    for settle in (
        lambda: driver.outbox.acknowledge(found, "slow", "late"),
        lambda: driver.outbox.defer(found, "slow", 5, "late"),
        lambda: driver.outbox.park(found, "slow", "late"),
    ):
        settle()
        delivery, _ = driver.outbox.show(taken.delivery_id)
        assert (delivery.state, delivery.reason, delivery.receipt) == (SENT, "", "")
    driver.outbox.acknowledge([taken], "fast", "ok")
    assert driver.outbox.show(taken.delivery_id)[0].state is ACCEPTED


def test_of_claims_at_once_one_wins(driver):
    written(driver, *(f"p{n}" for n in range(20)))
    outboxes = (driver.outbox, driver.open_another().outbox)
    taken, lock = [], threading.Lock()

    def work(number):
        while found := outboxes[number % 2].claim("registry", f"w{number}", 60, 10):
            with lock:
                taken.extend(d.delivery_id for d in found)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 20


def test_a_parked_version_lets_later_ones_pass(driver):
    written(driver, "a", "a")
    found = claim(driver)
    driver.outbox.park(found, "worker", "it will not have it")
    (second,) = claim(driver)
    assert second.version_id == 2
    delivery, _ = driver.outbox.show(found[0].delivery_id)
    assert (delivery.state, delivery.reason) == (PARKED, "it will not have it")


def test_retry_queues_what_was_parked(driver):
    written(driver, "a")
    found = claim(driver)
    driver.outbox.park(found, "worker", "no")
    assert driver.outbox.retry([found[0].delivery_id, 999]) == 1
    (again,) = claim(driver)
    assert again.delivery_id == found[0].delivery_id


def test_retry_of_what_was_overtaken_supersedes_it(driver):
    written(driver, "a", "a")
    first = claim(driver)
    driver.outbox.park(first, "worker", "no")
    driver.outbox.acknowledge(claim(driver), "worker", "ok")
    assert driver.outbox.retry([first[0].delivery_id]) == 0
    assert states(driver) == [("a", 1, SUPERSEDED), ("a", 2, ACCEPTED)]
    assert claim(driver) == ()


def test_retry_before_the_later_version_went_out_keeps_the_order(driver):
    written(driver, "a", "a")
    first = claim(driver)
    driver.outbox.park(first, "worker", "no")
    assert driver.outbox.retry([first[0].delivery_id]) == 1
    assert [d.version_id for d in claim(driver)] == [1]


def test_only_parked_deliveries_are_retried(driver):
    written(driver, "a", "b")
    found = claim(driver)
    driver.outbox.acknowledge(found, "worker", "ok")
    assert driver.outbox.retry([d.delivery_id for d in driver.outbox.list(None, (), 9, 0)]) == 0
    assert states(driver) == [("a", 1, ACCEPTED), ("b", 1, QUEUED)]


def test_a_delivery_gives_its_very_version(driver):
    written(driver, "a", "a")
    driver.delete(ResourceKey("Patient", "a"))
    fan_out(driver)
    found = driver.outbox.list("registry", (), 10, 0)
    delivered = [driver.outbox.version(delivery) for delivery in found]
    assert [(v.version_id, v.is_deletion) for v in delivered] == [(1, False), (2, False), (3, True)]
    assert delivered[0].resource()["active"] is True


def test_list_is_by_sink_and_state_in_pages(driver):
    written(driver, "a", "b", "c")
    driver.outbox.park(claim(driver), "worker", "no")
    parked = driver.outbox.list("registry", (PARKED,), 10, 0)
    assert [d.key.resource_id for d in parked] == ["a"]
    page = driver.outbox.list(None, (QUEUED, PARKED), 2, 0)
    assert [d.key.resource_id for d in page] == ["a", "b"]
    rest = driver.outbox.list(None, (QUEUED, PARKED), 2, page[-1].delivery_id)
    assert [d.key.resource_id for d in rest] == ["c"]
    assert driver.outbox.list("nobody", (), 10, 0) == ()


def test_the_ledger_tells_what_happened_and_when(driver):
    written(driver, "a")
    began = driver.clock()
    driver.clock.advance(1)
    driver.outbox.defer(claim(driver), "worker", 5, "busy")
    driver.clock.advance(10)
    driver.outbox.acknowledge(claim(driver), "worker", "r-1")
    delivery, events = driver.outbox.show(1)
    assert [event.state for event in events] == [QUEUED, SENT, QUEUED, SENT, ACCEPTED]
    assert [(event.at - began).seconds for event in events] == [0, 1, 1, 11, 11]
    assert events[2].detail == "busy"
    assert (delivery.queued_at, delivery.changed_at) == (began, driver.clock())
    assert driver.outbox.show(2) is None


def test_oldest_due_is_when_the_oldest_that_waits_was_queued(driver):
    assert driver.outbox.oldest_due() is None
    written(driver, "a")
    first = driver.clock()
    driver.clock.advance(5)
    written(driver, "b")
    second = driver.clock()
    assert driver.outbox.oldest_due() == first
    driver.outbox.acknowledge(claim(driver), "worker", "ok")
    assert driver.outbox.oldest_due() == second


def test_a_worker_reads_what_a_version_refers_to(driver):
    driver.write(patient("a", active=True))
    driver.write(patient("a", active=False))
    key = ResourceKey("Patient", "a")
    assert driver.outbox.read(key).version_id == 2
    assert driver.outbox.read(key, 1).resource()["active"] is True
    assert driver.outbox.read(ResourceKey("Patient", "b")) is None


def test_an_error_in_routing_makes_no_delivery(driver):
    driver.write(patient("a"), patient("b"))

    def route(version):
        if version.key.resource_id == "b":
            raise RuntimeError("of its own")
        return to_registry(version)

    with pytest.raises(RuntimeError):
        driver.outbox.fan_out(route, 10)
    assert states(driver) == []
    fan_out(driver)
    assert len(states(driver)) == 2
