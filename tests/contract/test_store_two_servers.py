"""Two servers on one store, both in the middle of a decision: no decision is made on what
is no longer so."""

import asyncio
import contextlib
import threading

from fhir_server.core.identity import ResourceKey

SYSTEM = "urn:s"


def creating(write, resource_id, value, meanwhile=lambda: None):
    """Create a Patient with the identifier unless there is one; take time between."""

    def decide(tx):
        found = tx.find("Patient", [(SYSTEM, value)])
        meanwhile()
        if found:
            return found[SYSTEM, value][0]
        identifier = [{"system": SYSTEM, "value": value}]
        write(tx, {"resourceType": "Patient", "id": resource_id, "identifier": identifier})
        return ResourceKey("Patient", resource_id)

    return decide


def test_two_that_both_find_it_absent_do_not_both_create_it(driver, write):
    other = driver.open_another()
    first_looked, second_asked = threading.Event(), threading.Event()

    def wait_for_the_second():
        first_looked.set()
        second_asked.wait(2)

    async def scene():
        first = asyncio.create_task(
            driver.store.commit(creating(write, "a", "1", wait_for_the_second))
        )
        await asyncio.to_thread(first_looked.wait, 2)
        second = asyncio.create_task(other.commit(creating(write, "b", "1")))
        # Time for the second to look too, if the store lets it.
        await asyncio.sleep(0.2)
        second_asked.set()
        return await asyncio.gather(first, second)

    answers = driver.run(scene())
    assert len(set(answers)) == 1
    assert driver.ids(f"Patient?identifier={SYSTEM}|1") == [answers[0].resource_id]


def test_what_depends_on_what_the_other_writes_is_decided_one_after_the_other(driver, write):
    """Write skew: each leaves only if the other stays, and both may not leave."""
    other = driver.open_another()
    driver.write(*({"resourceType": "Patient", "id": i, "active": True} for i in ("a", "b")))
    barrier = threading.Barrier(2)

    def leaving(own, others):
        def decide(tx):
            partner = tx.read(ResourceKey("Patient", others)).resource()
            # Broken when the store lets only one of them in, as it should.
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(0.2)
            if partner["active"]:
                write(tx, {"resourceType": "Patient", "id": own, "active": False})

        return decide

    async def scene():
        await asyncio.gather(
            driver.store.commit(leaving("a", "b")), other.commit(leaving("b", "a"))
        )

    driver.run(scene())
    active = [driver.read(ResourceKey("Patient", i)).resource()["active"] for i in ("a", "b")]
    assert sorted(active) == [False, True]


def test_the_commit_order_of_two_servers_has_no_gap(driver, write):
    other = driver.open_another()

    async def scene():
        await asyncio.gather(
            *(
                store.commit(creating(write, f"{place}-{n}", f"{place}-{n}"))
                for n in range(30)
                for place, store in (("a", driver.store), ("b", other))
            )
        )
        return await driver.store.changes(0, 100)

    assert [version.sequence for version in driver.run(scene())] == list(range(1, 61))
