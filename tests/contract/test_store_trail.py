"""The audit trail: in the commit of what it tells of, in one chain, whoever appends."""

import asyncio
from datetime import timedelta

import pytest

from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_chain import GENESIS, ChainLink, check_chain
from fhir_server.core.security.audit_record import AuditRecord, Touched
from fhir_server.errors import InvalidRequest, VersionConflict
from fhir_server.store.trail import TrailEntry, TrailQuery


def entry(request, *patients):
    record = AuditRecord(
        "read", "R", request=request, touched=tuple(Touched(patient) for patient in patients)
    )
    return TrailEntry(audit_record.format(record), audit_record.patients(record))


def append(driver, *requests, patients=()):
    entries = [entry(request, *patients) for request in requests]
    driver.commit(lambda tx: tx.record(entries))


def requests(driver, **query):
    found = driver.run(driver.store.trail.search(TrailQuery(**query)))
    return [audit_record.parse(record.text).request for record in found]


def everything(driver):
    return driver.run(driver.store.trail.search(TrailQuery(is_oldest_first=True, limit=10_000)))


def faults(driver, after=GENESIS):
    return list(check_chain(everything(driver), after, driver.store.trail.keys.of("")))


def test_records_follow_each_other_in_one_chain(driver):
    append(driver, "a", "b")
    append(driver, "c")
    assert requests(driver) == ["c", "b", "a"]
    assert [record.sequence for record in everything(driver)] == [1, 2, 3]
    assert faults(driver) == []
    ends = driver.run(driver.store.trail.ends())
    assert ends.pruned == GENESIS
    assert ends.newest == ChainLink(3, everything(driver)[-1].digest)


def test_a_decision_that_fails_leaves_no_record(driver):
    def refuse(tx):
        tx.record([entry("lost")])
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        driver.commit(refuse)
    append(driver, "kept")
    assert requests(driver) == ["kept"]
    assert faults(driver) == []


def test_a_record_is_in_the_commit_of_what_it_tells_of(driver):
    def refuse_late(tx):
        driver.put(tx, {"resourceType": "Patient", "id": "p"})
        tx.record([entry("with")])
        raise InvalidRequest("no")

    def keep(tx):
        driver.put(tx, {"resourceType": "Patient", "id": "q"})
        tx.record([entry("with")])

    async def both():
        return await asyncio.gather(
            driver.store.commit(refuse_late), driver.store.commit(keep), return_exceptions=True
        )

    driver.run(both())
    assert driver.ids("Patient") == ["q"]
    assert requests(driver) == ["with"]


def test_a_record_after_a_search_in_the_decision_goes_with_it(driver):
    def search_then_refuse(tx):
        driver.put(tx, {"resourceType": "Patient", "id": "p"})
        tx.record([entry("lost")])
        tx.search(driver.query("Patient?_id=p"))
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        driver.commit(search_then_refuse)
    assert everything(driver) == ()
    assert driver.ids("Patient") == []


def test_a_patient_has_a_list_of_his_own(driver):
    append(driver, "of-1", patients=["Patient/1"])
    append(driver, "of-both", patients=["Patient/1", "Patient/2"])
    append(driver, "of-nobody")
    assert requests(driver, patient="Patient/1") == ["of-both", "of-1"]
    assert requests(driver, patient="Patient/1", is_oldest_first=True) == ["of-1", "of-both"]
    assert requests(driver, patient="Patient/1", limit=1) == ["of-both"]
    assert requests(driver, patient="Patient/1", beyond=2) == ["of-1"]
    assert requests(driver, patient="Patient/3") == []


def test_times_bound_what_is_found(driver):
    append(driver, "early", patients=["Patient/1"])
    driver.clock.advance(60)
    noon = everything(driver)[0].at
    append(driver, "late", patients=["Patient/1"])
    for patient in (None, "Patient/1"):
        assert requests(driver, patient=patient, end=noon) == ["early"]
        assert requests(driver, patient=patient, start=noon + 1) == ["late"]
        assert requests(driver, patient=patient, start=noon, end=noon + 60_000) == [
            "late",
            "early",
        ]


def test_times_never_fall_when_the_clock_does(driver):
    append(driver, "a")
    driver.clock.advance(-3_600)
    append(driver, "b")
    first, second = everything(driver)
    assert second.at >= first.at
    assert faults(driver) == []


def test_two_servers_append_to_one_chain(driver):
    other = driver.open_another()

    async def many():
        await asyncio.gather(
            *(
                store.commit(lambda tx, n=n: tx.record([entry(str(n))]))
                for n in range(20)
                for store in (driver.store, other)
            )
        )

    driver.run(many())
    assert [record.sequence for record in everything(driver)] == list(range(1, 41))
    assert faults(driver) == []


def test_what_is_pruned_is_gone_and_the_rest_still_fits(driver):
    append(driver, "a", patients=["Patient/1"])
    append(driver, "b", patients=["Patient/1"])
    driver.clock.advance(60)
    append(driver, "c", patients=["Patient/1"])
    trail = driver.store.trail
    up_to = driver.run(trail.newest_before(driver.clock() - timedelta(seconds=30)))
    assert up_to is not None
    assert up_to.sequence == 2
    driver.run(trail.prune(up_to, [entry("pruned")]))
    assert requests(driver) == ["pruned", "c"]
    assert requests(driver, patient="Patient/1") == ["c"]
    assert driver.run(trail.find(1)) is None
    assert driver.run(trail.ends()).pruned == up_to
    assert faults(driver, up_to) == []
    append(driver, "d")
    assert faults(driver, up_to) == []


def test_nobody_prunes_twice(driver):
    append(driver, "a", "b")
    up_to = ChainLink(1, everything(driver)[0].digest)
    driver.run(driver.store.trail.prune(up_to, [entry("pruned")]))
    with pytest.raises(VersionConflict):
        driver.run(driver.store.trail.prune(up_to, [entry("again")]))
    assert requests(driver) == ["pruned", "b"]
