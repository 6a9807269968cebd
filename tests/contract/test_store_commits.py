"""Commits: each decision succeeds or fails alone, races have one winner."""

import asyncio

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.errors import PreconditionFailed, StoreUnavailable, VersionConflict

PATIENT = ResourceKey("Patient", "p1")


def patient(resource_id="p1", **elements):
    return {"resourceType": "Patient", "id": resource_id, **elements}


def create_if_none_has(write, identifier, resource_id):
    def decide(tx):
        found = tx.find("Patient", [identifier])
        if found:
            return found[identifier][0]
        system, value = identifier
        write(tx, patient(resource_id, identifier=[{"system": system, "value": value}]))
        return ResourceKey("Patient", resource_id)

    return decide


def test_a_decision_answers_what_it_returns(driver):
    assert driver.commit(lambda tx: 42) == 42


def test_a_decision_that_raises_stores_nothing(driver, write):
    def decide(tx):
        write(tx, patient())
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        driver.commit(decide)
    assert driver.read(PATIENT) is None
    assert driver.run(driver.store.changes(0, 10)) == ()


def test_fifty_racing_decisions_with_one_identifier_make_one_resource(driver, write):
    async def race():
        return await asyncio.gather(
            *(
                driver.store.commit(create_if_none_has(write, ("urn:a", "1"), f"p{n}"))
                for n in range(50)
            )
        )

    assert len(set(driver.run(race()))) == 1
    assert len(driver.ids("Patient?identifier=urn:a|1")) == 1


def test_two_servers_on_one_store_make_one_resource(driver, write):
    stores = (driver.store, driver.open_another())

    async def race():
        return await asyncio.gather(
            *(
                stores[n % 2].commit(create_if_none_has(write, ("urn:a", str(n // 10)), f"p{n}"))
                for n in range(60)
            )
        )

    assert len(set(driver.run(race()))) == 6
    assert len(driver.ids("Patient")) == 6


def test_of_racing_updates_of_one_version_one_wins(driver, write):
    driver.write(patient())

    def update_the_first(tx):
        if tx.read(PATIENT).version_id != 1:
            raise PreconditionFailed("somebody was faster")
        write(tx, patient(active=True))

    async def race():
        return await asyncio.gather(
            *(driver.store.commit(update_the_first) for _ in range(20)), return_exceptions=True
        )

    outcomes = driver.run(race())
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, PreconditionFailed) for outcome in outcomes) == 19
    assert driver.read(PATIENT).version_id == 2


def decisions_of_one_group(driver, decisions):
    """Outcomes of decisions that arrive together."""

    async def together():
        return await asyncio.gather(
            *(driver.store.commit(decide) for decide in decisions), return_exceptions=True
        )

    return driver.run(together())


@pytest.mark.parametrize("is_searched", [False, True], ids=["unflushed", "flushed"])
def test_a_failing_decision_takes_nothing_of_others_with_it(driver, write, is_searched):
    def good(n):
        def decide(tx):
            write(tx, patient(f"p{n}"))
            if is_searched:
                return len(tx.search(driver.query("Patient")).versions)
            return n

        return decide

    def bad(tx):
        write(tx, patient("bad", identifier=[{"system": "urn:new", "value": "1"}]))
        tx.search(driver.query("Patient"))
        write(tx, {"resourceType": "Device", "id": "bad"})
        raise PreconditionFailed("no")

    outcomes = decisions_of_one_group(driver, [good(1), bad, good(2), bad, good(3)])
    assert [isinstance(outcome, PreconditionFailed) for outcome in outcomes] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert driver.ids("Patient") == ["p1", "p2", "p3"]
    feed = driver.run(driver.store.changes(0, 10))
    assert [(v.sequence, v.key.resource_id) for v in feed] == [(1, "p1"), (2, "p2"), (3, "p3")]


def test_a_blind_put_that_collides_fails_alone(driver):
    from fhir_server.core.version import next_version

    driver.write(patient())

    def blind(resource_id):
        def decide(tx):
            key = ResourceKey("Patient", resource_id)
            tx.put(*next_version(None, key, patient(resource_id), tx.now))

        return decide

    outcomes = decisions_of_one_group(driver, [blind("p2"), blind("p1"), blind("p3")])
    assert outcomes[0] is outcomes[2] is None
    assert isinstance(outcomes[1], VersionConflict)
    assert driver.ids("Patient") == ["p1", "p2", "p3"]


def test_a_name_that_was_undone_is_not_another_names_number(driver, write):
    """What a failed decision interned may be given to another; caches must not tell."""

    def coded(resource_id, code):
        return {
            "resourceType": "Observation",
            "id": resource_id,
            "status": "final",
            "code": {"coding": [{"system": f"urn:{code}", "code": code, "display": code}]},
            "subject": {"reference": f"Patient/{code}"},
        }

    def failing(tx):
        write(tx, coded("bad", "undone"))
        tx.search(driver.query("Observation"))
        raise PreconditionFailed("no")

    for n in range(3):
        decisions_of_one_group(
            driver, [failing, lambda tx, n=n: write(tx, coded(f"o{n}", f"c{n}"))]
        )
        decisions_of_one_group(driver, [failing])
    driver.write(coded("late", "undone"))
    for n in range(3):
        assert driver.ids(f"Observation?code=urn:c{n}|c{n}") == [f"o{n}"]
        assert driver.ids(f"Observation?subject=Patient/c{n}") == [f"o{n}"]
        assert driver.ids(f"Observation?code:text=c{n}") == [f"o{n}"]
    assert driver.ids("Observation?code=undone") == ["late"]


def test_a_transaction_searches_what_was_put_before(driver, write):
    driver.write(patient("p1", gender="female"))

    def decide(tx):
        write(tx, patient("p1", gender="male"))
        write(tx, patient("p2", gender="female"))
        first = [
            v.key.resource_id for v in tx.search(driver.query("Patient?gender=female")).versions
        ]
        write(tx, patient("p3", gender="female"))
        second = [
            v.key.resource_id for v in tx.search(driver.query("Patient?gender=female")).versions
        ]
        return first, second

    assert driver.commit(decide) == (["p2"], ["p2", "p3"])


def test_a_decision_sees_what_an_earlier_one_of_its_group_decided(driver, write):
    def decide(tx):
        count = len(tx.search(driver.query("Patient")).versions)
        write(tx, patient(f"p{count}"))
        return count

    assert decisions_of_one_group(driver, [decide] * 5) == [0, 1, 2, 3, 4]


def test_a_large_decision_is_all_there(driver, write):
    driver.write(*(patient(f"p{n}", identifier=[{"value": f"{n}"}]) for n in range(1300)))
    assert len(driver.run(driver.store.changes(0, 2000))) == 1300
    found = driver.commit(lambda tx: tx.find("Patient", [(None, str(n)) for n in range(1400)]))
    assert len(found) == 1300


def test_a_closed_store_refuses(driver):
    store = driver.open_another()
    driver.run(store.close())
    with pytest.raises(StoreUnavailable):
        driver.run(store.commit(lambda tx: None))
    with pytest.raises(StoreUnavailable):
        driver.run(store.read(PATIENT))
    assert driver.run(store.is_ready()) is False


def test_closing_finishes_what_was_accepted(driver, write):
    store = driver.open_another()

    async def commit_and_close():
        waiting = [
            asyncio.ensure_future(store.commit(lambda tx, n=n: write(tx, patient(f"p{n}"))))
            for n in range(20)
        ]
        await asyncio.sleep(0)
        await store.close()
        return await asyncio.gather(*waiting)

    assert len(driver.run(commit_and_close())) == 20
    assert len(driver.ids("Patient")) == 20


def test_a_store_that_works_is_ready(driver):
    assert driver.run(driver.store.is_ready()) is True


def test_a_cancelled_request_harms_nobody(driver, write):
    async def cancel_one():
        first = asyncio.ensure_future(driver.store.commit(lambda tx: write(tx, patient("p1"))))
        second = asyncio.ensure_future(driver.store.commit(lambda tx: write(tx, patient("p2"))))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait((first, second))
        return second.result()

    assert driver.run(cancel_one()).key.resource_id == "p2"
    assert driver.run(driver.store.is_ready()) is True
