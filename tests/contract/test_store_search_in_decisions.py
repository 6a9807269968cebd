"""Searches within a decision: what they find of names that are not committed is not kept."""

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
