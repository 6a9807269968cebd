"""Exports on both stores: one moment, each resource once, whoever works at them or dies."""

import asyncio
import random
from datetime import timedelta

import pytest

from fhir_server.core.bulk import job as export_job
from fhir_server.core.bulk.job import Place
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import deletion
from fhir_server.errors import NotFound
from fhir_server.operations import export
from fhir_server.operations.export_lease import LEASE
from fhir_server.operations.export_steps import ExportSteps
from fhir_server.operations.keep_exports import Exporter
from fhir_server.store.exports.folder import FolderExportStore
from tests.contract.exporting import SMALL, Exporting

KINDS = ("Patient", "Observation")


@pytest.fixture
def exporting(store_kind, new_url, make_driver, indexer):
    url = new_url(store_kind)
    if store_kind == "sqlite":
        url = url.replace(".db", "/fhir.db")
    driver = make_driver(url)
    made = Exporting(driver, indexer, url)
    yield made
    made.store.close()
    driver.close()


def patients(count, **more):
    return [{"resourceType": "Patient", "id": f"p{n}", **more} for n in range(count)]


def test_a_job_is_kept_and_of_two_changes_one_is_lost(exporting):
    store = exporting.store
    store.add("one", "1")
    record = store.find("one")
    assert store.find("two") is None
    changed = store.replace(record, "2")
    assert changed is not None
    assert store.replace(record, "3") is None
    assert store.replace(changed, "4") is not None
    assert [(each.name, each.text) for each in store.jobs()] == [("one", "4")]
    store.remove("one")
    store.remove("one")
    assert store.jobs() == []
    assert store.replace(changed, "5") is None


def test_files_are_what_was_appended_until_they_are_dropped(exporting):
    store = exporting.store
    store.add("one", "1")
    portions = [bytes([n]) * 70_000 for n in range(5)]
    for number, portion in enumerate(portions):
        store.append("one", "f", number, portion)
    store.append("one", "g", 0, b"other")
    store.finish("one", "f")
    assert b"".join(store.portions("one", "f")) == b"".join(portions)
    store.drop("one", "f")
    with pytest.raises(NotFound):
        list(store.portions("one", "f"))
    assert b"".join(store.portions("one", "g")) == b"other"
    assert store.strays() == []
    store.append("nobody's", "f", 0, b"x")
    assert store.strays() == ["nobody's"]
    exporting.driver.run(exporting.exporter().clean())
    assert store.strays() == []
    with pytest.raises(NotFound):
        list(store.portions("nobody's", "f"))


def test_an_export_is_of_one_moment_however_long_it_takes(exporting):
    driver = exporting.driver
    driver.write(*patients(7))
    driver.write({"resourceType": "Observation", "id": "o", "status": "final", "code": {}})
    name = exporting.begin()

    class Writing(ExportSteps):
        async def write(self, held, place: Place):
            changed = patients(9, active=True)
            await driver.store.commit(lambda tx: [driver.put(tx, each) for each in changed])
            key = ResourceKey("Patient", "p3")
            if place.sequence is None and place.type == 0:
                await driver.store.commit(lambda tx: _delete(tx, key))
            return await super().write(held, place)

    job = exporting.run(name, exporting.exporter(steps=Writing))
    assert job.state == "done"
    assert exporting.keys(name) == ["Observation/o", *(f"Patient/p{n}" for n in range(7))]
    assert not any("active" in each for each in exporting.lines(name))
    assert max(file.count for file in job.files) <= SMALL.resources + SMALL.page


def _delete(tx, key):
    current = tx.read(key)
    if current is not None and not current.is_deletion:
        tx.put(deletion(current, tx.now), None)


def test_who_dies_is_followed_by_another_from_the_last_whole_file(exporting):
    driver = exporting.driver
    driver.write(*patients(20))
    name = exporting.begin("_type=Patient")
    written = []

    class Dying(ExportSteps):
        async def write(self, held, place):
            if len(held.job.files) == 3:
                # As if the process had gone in the middle of a file.
                held.store.append(held.name, "half", 0, b"half a file")
                raise asyncio.CancelledError
            written.append(place)
            return await super().write(held, place)

    class Dead(Exporter):
        async def _advance(self, held):
            try:
                await super()._advance(held)
            finally:
                held._is_lost = True

    steps = Dying(driver.store, lambda: exporting.context, exporting.authorizer, None, SMALL)
    with pytest.raises(asyncio.CancelledError):
        driver.run(Dead(exporting.store, steps, driver.clock, "dead").work())
    before = exporting.job(name).files
    assert len(before) == 3
    driver.clock.advance(LEASE.total_seconds() + 1)
    job = exporting.run(name)
    assert job.files[:3] == before
    assert exporting.keys(name) == sorted(f"Patient/p{n}" for n in range(20))


def test_a_job_in_hand_is_nobody_elses_and_a_lost_one_is_left_alone(exporting):
    driver = exporting.driver
    driver.write(*patients(6))
    name = exporting.begin("_type=Patient")
    other = exporting.exporter()

    class Slow(ExportSteps):
        async def write(self, held, place):
            job = await super().write(held, place)
            if len(job.files) == 1:
                assert not await other.work()
                driver.clock.advance(LEASE.total_seconds() + 1)
                assert await other.work()
            return job

    driver.run(exporting.exporter(steps=Slow).work())
    assert exporting.job(name).state == "done"
    assert exporting.keys(name) == [f"Patient/p{n}" for n in range(6)]


def test_an_ended_export_stops_and_leaves_nothing(exporting):
    driver = exporting.driver
    driver.write(*patients(6))
    name = exporting.begin("_type=Patient")

    class Ended(ExportSteps):
        async def write(self, held, place):
            if held.job.files:
                await export.cancel(exporting.context, name)
            return await super().write(held, place)

    driver.run(exporting.exporter(steps=Ended).work())
    driver.run(exporting.exporter().clean())
    assert exporting.store.jobs() == []
    assert exporting.store.strays() == []
    with pytest.raises(NotFound):
        driver.run(export.find(exporting.context, name))


def test_a_moment_that_is_forgotten_is_begun_anew_and_one_under_way_is_held(exporting):
    driver = exporting.driver
    driver.write(*patients(6))
    name = exporting.begin("_type=Patient")
    exporter = exporting.exporter()

    class Forgetting(ExportSteps):
        async def write(self, held, place):
            if held.job.attempts == 0 and held.job.files:
                assert await exporter.find_hold() == held.job.moment
                driver.clock.advance(1)
                changed = patients(6, active=True)
                await driver.store.commit(lambda tx: [driver.put(tx, each) for each in changed])
                driver.clock.advance(5)
                await driver.store.purge(driver.clock())
            return await super().write(held, place)

    driver.clock.advance(1)
    job = exporting.run(name, exporting.exporter(steps=Forgetting))
    assert (job.state, job.attempts) == ("done", 1)
    assert [each["active"] for each in exporting.lines(name)] == [True] * 6
    assert driver.run(exporter.find_hold()) is None


def test_what_is_over_is_taken_away(exporting):
    exporting.driver.write(*patients(1))
    name = exporting.begin("_type=Patient")
    exporting.run(name)
    exporter = exporting.exporter()
    exporting.driver.run(exporter.clean())
    assert exporting.store.find(name) is not None
    exporting.driver.clock.advance(timedelta(hours=25).total_seconds())
    exporting.driver.run(exporter.clean())
    assert exporting.store.jobs() == []
    with pytest.raises(NotFound):
        list(exporting.store.portions(name, "x"))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_mirror_that_is_kept_by_exports_misses_nothing(exporting, seed):
    driver, rng = exporting.driver, random.Random(seed)
    exporter = exporting.exporter()
    mirror, since = {}, None
    for turn in range(4):
        for _ in range(12):
            if rng.random() < 0.5:
                # Many changes of one millisecond, and exports between them.
                driver.clock.advance(0.001)
            change(driver, rng)
        query = "_type=Patient,Observation"
        name = exporting.begin(query if since is None else f"{query}&_since={since}")
        job = exporting.run(name, exporter)
        for key in exporting.deleted(name):
            mirror.pop(key, None)
        for each in exporting.lines(name):
            mirror[f"{each['resourceType']}/{each['id']}"] = each["meta"]["versionId"]
        since = export_job.manifest(job, "", is_token_needed=False)["transactionTime"]
        assert mirror == stored(driver), turn


def change(driver, rng):
    resource_type, name = rng.choice(KINDS), str(rng.randrange(6))
    key = ResourceKey(resource_type, name)
    body = {"resourceType": resource_type, "id": name, "language": rng.choice(("ru", "en"))}
    if resource_type == "Observation":
        body |= {"status": "final", "code": {"text": "x"}}
    if rng.random() < 0.4:
        driver.commit(lambda tx: _delete(tx, key))
    else:
        driver.write(body)


def stored(driver):
    return {
        str(version.key): str(version.version_id)
        for kind in KINDS
        for version in driver.search(f"{kind}?_count=100").versions
    }


def test_nothing_is_made_before_the_first_export(tmp_path):
    store = FolderExportStore(tmp_path / "exports")
    assert store.jobs() == []
    assert store.find("x") is None
    store.remove("x")
    store.close()
    assert not (tmp_path / "exports").exists()
