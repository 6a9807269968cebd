"""Many reads at the same moment: each says what it says alone, and no less than is committed."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fhir_server.core.identity import ResourceKey

WORKER = Path(__file__).with_name("crash_worker.py")
NEWEST = "Observation?patient=Patient/{}&code=urn:s|bp&_sort=-date&_count=3"


def observation(number, patient, **more):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "urn:s", "code": "bp"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": f"2024-03-{number % 28 + 1:02}T10:00:00Z",
        **more,
    }


def at_once(driver, *asked):
    async def gathered():
        return await asyncio.gather(*asked)

    return driver.run(gathered())


@pytest.fixture(name="filled")
def fill(driver):
    patients = [{"resourceType": "Patient", "id": name, "active": True} for name in "abc"]
    driver.write(*patients, *(observation(n, "abc"[n % 3]) for n in range(30)))
    for status in ("amended", "corrected", "final", "amended"):
        driver.write(observation(4, "b", status=status))
    driver.delete(ResourceKey("Observation", "o7"))
    driver.write({"resourceType": "Device", "id": "o1"})
    return driver


def test_reads_at_once_say_what_each_says_alone(filled):
    keys = [
        *(ResourceKey("Observation", f"o{number}") for number in range(31)),
        *(ResourceKey(name, "o1") for name in ("Device", "Patient")),
        ResourceKey("Patient", "a"),
        ResourceKey("Observation", "o4"),
    ]
    alone = [filled.read(key) for key in keys]
    assert [v.version_id if v else None for v in alone[4:8]] == [5, 1, 1, 2]
    assert alone[7].is_deletion
    assert alone[30] is None
    assert at_once(filled, *map(filled.store.read, keys)) == alone


def test_reads_of_versions_at_once_say_what_each_says_alone(filled):
    asked = [(ResourceKey("Observation", f"o{n}"), v) for n in (3, 4, 7, 99) for v in range(7)]
    alone = [filled.run(filled.store.vread(*each)) for each in asked]
    assert [v.version_id if v else None for v in alone[7:14]] == [None, 1, 2, 3, 4, 5, None]
    assert alone[16].is_deletion
    assert at_once(filled, *(filled.store.vread(*each) for each in asked)) == alone


def test_many_are_read_by_one_call_whatever_their_history(filled):
    keys = [ResourceKey("Observation", f"o{number}") for number in (9, 4, 7, 99, 4)]
    found = filled.run(filled.store.read_many(keys))
    assert [(v.key.resource_id, v.version_id) for v in found] == [("o9", 1), ("o4", 5)]


def test_searches_at_once_say_what_each_says_alone(filled):
    # What the shortest way is for, beside what it is not for, some of the same patient.
    filled.write(
        observation(40, "c", effectiveDateTime="2024-03"),
        observation(41, "a", effectiveDateTime=None),
        observation(42, "b", code={"coding": [{"system": "urn:s", "code": "pulse"}]}),
    )
    texts = [
        *(NEWEST.format(name) for name in "abcd"),
        NEWEST.format("a").replace("-date", "date"),
        NEWEST.format("a").replace("_count=3", "_count=30"),
        NEWEST.format("a").replace("-date", "date").replace("_count=3", "_count=30"),
        "Observation?patient=b&_sort=-date",
        "Observation?patient=b&code=urn:s|bp,urn:s|pulse&_sort=-date&_count=4",
        "Observation?patient=b&code=pulse&_sort=-date",
        *(NEWEST.format(name) + "&date=ge2024-03-10" for name in "abc"),
        NEWEST.format("c") + "&date=lt2024-03-10",
        NEWEST.format("c") + "&status=final",
        NEWEST.format("a,b"),
        "Observation?code=urn:s|bp&_count=5",
        "Patient?active=true",
    ]
    alone = [filled.search(text) for text in texts]
    assert [v.key.resource_id for v in alone[0].versions] == ["o27", "o24", "o21"]
    assert alone[3].versions == ()
    for _ in range(2):
        assert at_once(filled, *(filled.store.search(filled.query(t)) for t in texts)) == alone


def test_a_commit_of_another_server_is_seen_by_whatever_is_asked_then(filled):
    other = filled.open_another()
    chance = random.Random(5)
    key = ResourceKey("Observation", "o3")

    async def ask_all_the_time(stop):
        while not stop.is_set():
            await asyncio.gather(
                filled.store.read(key),
                filled.store.search(filled.query(NEWEST.format("a"))),
                asyncio.sleep(chance.random() / 500),
            )

    async def scene():
        stop = asyncio.Event()
        asking = [asyncio.create_task(ask_all_the_time(stop)) for _ in range(8)]
        for number in range(12):
            newest = observation(3, "a", effectiveDateTime=f"2024-05-01T10:00:{number:02}Z")
            written = await other.commit(lambda tx, newest=newest: filled.put(tx, newest))
            assert (await filled.store.read(key))._replace(sequence=0) == written
            page = await filled.store.search(filled.query(NEWEST.format("a")))
            assert page.versions[0].version_id == written.version_id
            assert page.as_of >= page.versions[0].sequence
        stop.set()
        await asyncio.gather(*asking)

    filled.run(scene())


def test_what_another_process_has_acknowledged_is_read(store_kind, new_url, make_driver):
    url = new_url(store_kind)
    driver = make_driver(url)
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), url, "w"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=WORKER.parents[2],
        env={**os.environ, "PYTHONPATH": str(WORKER.parents[2])},
    )

    async def scene():
        for _ in range(30):
            value = (await asyncio.to_thread(worker.stdout.readline)).strip()
            keys = [ResourceKey("Patient", f"{value}-{part}") for part in range(3)]
            found = await asyncio.gather(*map(driver.store.read, keys))
            assert [v and v.version_id for v in found] == [2, 1, 1]

    try:
        driver.run(scene())
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    driver.close()
