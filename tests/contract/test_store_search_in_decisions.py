"""Searches within a decision: what they find of names that are not committed is not kept."""

import asyncio
import time

import pytest

from fhir_server.errors import PreconditionFailed

BASE = "Observation?patient=Patient/p&code=urn:s|{}&_sort=-date"


def observation(resource_id, code):
    return {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "code": {"coding": [{"system": "urn:s", "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2024-03-05T10:00:00Z",
    }


def test_a_code_of_a_failed_decision_is_not_taken_for_the_next_one(driver, write):
    """A code that was rolled back may give its number to another."""
    driver.commit(lambda tx: write(tx, observation("o0", "known")))

    def fail(tx):
        write(tx, observation("o1", "failed"))
        assert len(tx.search(driver.query(BASE.format("failed"))).versions) == 1
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        driver.commit(fail)
    driver.commit(lambda tx: write(tx, observation("o2", "stored")))
    assert driver.ids(BASE.format("failed")) == []
    assert driver.ids(BASE.format("stored")) == ["o2"]
    driver.commit(lambda tx: write(tx, observation("o3", "failed")))
    assert driver.ids(BASE.format("failed")) == ["o3"]
    assert driver.ids(BASE.format("stored")) == ["o2"]


def test_a_decision_finds_what_it_put_and_forgets_it_when_it_fails(driver, write):
    def fail(tx):
        write(tx, observation("o1", "a"))
        assert [v.key.resource_id for v in tx.search(driver.query(BASE.format("a"))).versions] == [
            "o1"
        ]
        raise PreconditionFailed("no")

    for _ in range(2):
        with pytest.raises(PreconditionFailed):
            driver.commit(fail)
        assert driver.ids(BASE.format("a")) == []


def test_changes_are_told_as_they_are_to_each_decision_of_a_group(driver, write):
    """Whether they wait to be written, were written by a search, or were undone by a failure."""

    def put(name, is_searched=False, fails=False):
        def decide(tx):
            if name == "o1":
                time.sleep(0.1)  # the others arrive meanwhile, for one commit of them all
            before = {v.key.resource_id for v in tx.changes(0, ["Observation"])[1]}
            write(tx, observation(name, name))
            if is_searched:
                tx.search(driver.query(BASE.format(name)))
            newest, after = tx.changes(0, ["Observation"])
            assert {v.key.resource_id for v in after} == before | {name}
            assert newest == max(v.sequence for v in after)
            assert tx.changes(newest, ["Observation"]) == (newest, ())
            assert tx.changes(newest - 1, ["Observation"])[1] == (after[-1],)
            if fails:
                raise PreconditionFailed("no")
            return before

        return decide

    async def all_at_once():
        return await asyncio.gather(
            driver.store.commit(put("o1")),
            driver.store.commit(put("o2", is_searched=True)),
            driver.store.commit(put("o3", is_searched=True, fails=True)),
            driver.store.commit(put("o4")),
            driver.store.commit(put("o5")),
            return_exceptions=True,
        )

    told = driver.run(all_at_once())
    assert isinstance(told.pop(2), PreconditionFailed)
    assert told == [set(), {"o1"}, {"o1", "o2"}, {"o1", "o2", "o4"}]
