"""Versions: what was put is what is read, byte for byte, and nothing is overwritten."""

from datetime import timedelta

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version, deletion, next_version
from fhir_server.errors import VersionConflict

PATIENT = ResourceKey("Patient", "p1")


def patient(**elements):
    return {"resourceType": "Patient", "id": "p1", **elements}


def test_what_was_never_stored_is_none(driver):
    assert driver.read(PATIENT) is None
    assert driver.run(driver.store.vread(PATIENT, 1)) is None


def test_a_read_gives_the_very_bytes_that_were_put(driver):
    (stored,) = driver.write(patient(gender="female"))
    found = driver.read(PATIENT)
    assert found.body == stored.body
    assert found == stored._replace(sequence=1)


def test_an_update_keeps_the_version_before(driver):
    driver.write(patient(gender="female"))
    driver.clock.advance(1)
    driver.write(patient(gender="male"))
    assert driver.read(PATIENT).version_id == 2
    assert driver.run(driver.store.vread(PATIENT, 1)).resource()["gender"] == "female"
    assert driver.run(driver.store.vread(PATIENT, 2)).resource()["gender"] == "male"
    assert driver.run(driver.store.vread(PATIENT, 3)) is None


def test_vread_of_a_deletion_is_a_version_without_a_body(driver):
    driver.write(patient())
    driver.delete(PATIENT)
    assert driver.read(PATIENT).is_deletion
    assert driver.run(driver.store.vread(PATIENT, 2)).body is None
    assert driver.run(driver.store.vread(PATIENT, 1)).body is not None


def test_a_deleted_resource_can_live_again(driver):
    driver.write(patient())
    driver.delete(PATIENT)
    (version,) = driver.write(patient(active=True))
    assert (version.version_id, version.interaction) == (3, "create")
    assert driver.ids("Patient?active=true") == ["p1"]


def test_a_decision_reads_many_as_it_reads_each(driver):
    """Of what is stored, deleted, unknown, put before it and put by itself; in bulk too."""
    keys = [ResourceKey("Patient", f"p{n}") for n in range(1_500)]
    resources = [{"resourceType": "Patient", "id": key.resource_id} for key in keys]
    driver.write(*resources)
    driver.delete(keys[1])
    unknown = ResourceKey("Device", "p0")

    def decide(tx):
        driver.put(tx, {**resources[2], "active": True})
        driver.put(tx, resources[1])
        tx.put(deletion(tx.read(keys[3]), tx.now), None)
        tx.read(keys[4])
        wanted = [unknown, *keys, keys[4]]
        before = tx.read_many(wanted)
        # A search writes what waits; the answer stays the same.
        tx.search(driver.query("Patient?active=true"))
        after = tx.read_many(wanted)
        each = {key: tx.read(key) for key in wanted}
        return before, after, each

    before, after, each = driver.commit(decide)
    assert before == after
    assert before == {k: v for k, v in each.items() if v is not None and not v.is_deletion}
    assert len(before) == 1_499
    assert keys[3] not in before
    assert before[keys[1]].version_id == 3


def test_identifiers_without_a_system_are_found_whatever_is_in_them(driver):
    values = [
        "a.b",
        "a b",
        "a\\E",
        "^a$",
        "a|b",
        "(a)[b]*+?",
        "é-ß",
        "a\nb",
        "#~&",
        "x" * 2_000,
        "a",
    ]
    patients = [
        {
            "resourceType": "Patient",
            "id": f"p{number}",
            "identifier": [{"system": "urn:s", "value": value}],
        }
        for number, value in enumerate(values)
    ]
    driver.write(*patients)
    asked = [(None, value) for value in (*values, "aXb", "é", "a\0", "ab", "", "x")]
    found = driver.commit(lambda tx: tx.find("Patient", asked))
    assert found == {
        (None, value): (ResourceKey("Patient", f"p{number}"),)
        for number, value in enumerate(values)
    }
    assert driver.commit(lambda tx: tx.find("Patient", asked[:9])) == {
        identifier: found[identifier] for identifier in asked[:9]
    }


def test_read_many_leaves_out_deletions_and_the_unknown_and_keeps_the_order(driver):
    keys = [ResourceKey("Patient", f"p{n}") for n in range(4)]
    driver.write(*({"resourceType": "Patient", "id": key.resource_id} for key in keys))
    driver.delete(keys[1])
    wanted = [keys[3], ResourceKey("Patient", "other"), keys[1], keys[0], keys[3]]
    found = driver.run(driver.store.read_many(wanted))
    assert [version.key for version in found] == [keys[3], keys[0]]


def test_ids_are_told_apart_by_case_and_type(driver):
    driver.write(
        patient(),
        {"resourceType": "Patient", "id": "P1"},
        {"resourceType": "Device", "id": "p1"},
    )
    assert driver.read(ResourceKey("Patient", "P1")).resource()["id"] == "P1"
    assert driver.read(ResourceKey("Device", "p1")).resource()["resourceType"] == "Device"


@pytest.mark.parametrize("version_id", [1, 3])
def test_a_version_must_follow_the_one_that_is_stored(driver, version_id):
    driver.write(patient())

    def decide(tx):
        version, stored = next_version(None, PATIENT, patient(), tx.now)
        tx.put(version._replace(version_id=version_id), stored)

    with pytest.raises(VersionConflict):
        driver.commit(decide)
    assert driver.read(PATIENT).version_id == 1


def test_a_put_must_bear_the_time_of_its_transaction(driver):
    def decide(tx):
        version, stored = next_version(None, PATIENT, patient(), tx.now - timedelta(seconds=1))
        tx.put(version, stored)

    with pytest.raises(ValueError, match="last_updated"):
        driver.commit(decide)
    assert driver.read(PATIENT) is None


def test_the_time_of_commits_never_falls_though_the_clock_does(driver):
    (first,) = driver.write(patient())
    driver.clock.advance(-3600)
    (second,) = driver.write(patient(active=True))
    assert second.last_updated == first.last_updated
    driver.clock.advance(7200)
    (third,) = driver.write(patient(active=False))
    assert third.last_updated > second.last_updated


def test_a_transaction_reads_what_it_has_put(driver, write):
    def decide(tx):
        write(tx, patient(gender="female"))
        seen = tx.read(PATIENT)
        write(tx, patient(gender="male"))
        return seen, tx.read(PATIENT)

    first, second = driver.commit(decide)
    assert (first.version_id, second.version_id) == (1, 2)
    assert driver.read(PATIENT).resource()["gender"] == "male"
    assert driver.ids("Patient?gender=female") == []


def test_a_deletion_in_the_same_commit_as_its_creation(driver, write, delete):
    driver.commit(lambda tx: (write(tx, patient()), delete(tx, PATIENT)))
    assert driver.read(PATIENT).is_deletion
    assert driver.ids("Patient") == []


def test_a_deletion_has_no_resource(driver):
    driver.write(patient())

    def decide(tx):
        tx.put(deletion(tx.read(PATIENT), tx.now), patient())

    with pytest.raises(ValueError, match="deletion"):
        driver.commit(decide)


def test_find_gives_current_resources_by_identifier(driver):
    identified = [{"system": "urn:a", "value": "1"}]
    driver.write(
        patient(identifier=identified),
        {"resourceType": "Patient", "id": "p2", "identifier": [{"system": "urn:b", "value": "1"}]},
        {"resourceType": "Device", "id": "d1", "identifier": identified},
    )
    asked = [("urn:a", "1"), (None, "1"), ("urn:a", "2"), ("", "1")]
    found = driver.commit(lambda tx: tx.find("Patient", asked))
    assert found == {
        ("urn:a", "1"): (PATIENT,),
        (None, "1"): (PATIENT, ResourceKey("Patient", "p2")),
    }


@pytest.mark.parametrize("is_searched_first", [False, True])
def test_find_sees_what_was_put_before(driver, write, delete, is_searched_first):
    def identified(resource_id, value):
        return patient(identifier=[{"system": "urn:a", "value": value}]) | {"id": resource_id}

    driver.write(identified("p1", "1"), identified("p2", "2"))

    def decide(tx):
        write(tx, identified("p1", "3"))
        delete(tx, ResourceKey("Patient", "p2"))
        write(tx, identified("p3", "4"))
        if is_searched_first:
            tx.search(driver.query("Patient"))
        return tx.find("Patient", [("urn:a", n) for n in "1234"])

    assert driver.commit(decide) == {
        ("urn:a", "3"): (PATIENT,),
        ("urn:a", "4"): (ResourceKey("Patient", "p3"),),
    }


def test_an_identifier_is_compared_as_it_is_written(driver):
    driver.write(
        patient(identifier=[{"system": "urn:a", "value": "Ab 1"}]),
    )
    for value in ("ab 1", "Ab  1", "Ab 1 ", "Ab"):
        assert driver.commit(lambda tx, v=value: tx.find("Patient", [("urn:a", v)])) == {}
        assert driver.ids(f"Patient?identifier=urn:a|{value}") == []
    assert driver.ids("Patient?identifier=urn:a|Ab 1") == ["p1"]


def test_changes_in_a_transaction_are_of_the_types_asked_for(driver, write):
    driver.write({"resourceType": "Device", "id": "d1"}, patient())
    driver.write({"resourceType": "Device", "id": "d2"})

    def decide(tx):
        write(tx, {"resourceType": "Device", "id": "d3"})
        return tx.changes(1, ("Device", "Group"))

    newest, found = driver.commit(decide)
    assert newest == 4
    assert [(v.sequence, v.key.resource_id) for v in found] == [(3, "d2"), (4, "d3")]
    assert all(isinstance(version, Version) for version in found)


def test_a_check_in_parts_finds_what_a_check_of_all_does(driver):
    for number in range(3):
        driver.write(*({"resourceType": "Patient", "id": f"p{n}"} for n in range(number, 4)))
    driver.delete(ResourceKey("Patient", "p0"))
    told = []
    whole = driver.store.check(told.append)
    assert sum(told) == whole.counts["versions"] == 10
    parts = [driver.store.check_bodies(*part, told.append) for part in ((1, 4), (5, 9), (10, 10))]
    assert sum(told) == 20
    # What was written since the parts were looked at is no fault of theirs.
    driver.write({"resourceType": "Patient", "id": "later"})
    found = driver.store.check(told.append, parts)
    assert found.faults == whole.faults == ()
    assert found.counts["versions"] == 11
