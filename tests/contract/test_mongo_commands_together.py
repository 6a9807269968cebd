"""What is asked at once is one command, unless that is not to be had."""

import asyncio
import os

import pytest
from pymongo import MongoClient, monitoring

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import Restriction
from fhir_server.store.mongo import documents

READS = ("find", "aggregate")


class Commands(monitoring.CommandListener):
    def __init__(self):
        self.begun = []

    def started(self, event):
        if event.command_name in READS:
            self.begun.append((event.command_name, event.command[event.command_name]))

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


@pytest.fixture(scope="module")
def commands():
    return Commands()


@pytest.fixture(scope="module")
def url(mongodb):
    return mongodb()


@pytest.fixture
def admin(url):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("a MongoDB that is not ours is not made to fail")
    with MongoClient(url) as client:
        yield client.admin


@pytest.fixture(scope="module")
def filled(url, make_driver, commands):
    options = documents._options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_options", lambda: options() | {"event_listeners": [commands]})
        driver = make_driver(url)
        driver.write(
            *(
                {
                    "resourceType": "Observation",
                    "id": f"o{number}",
                    "status": "final",
                    "code": {"coding": [{"system": "urn:s", "code": "bp"}]},
                    "subject": {"reference": f"Patient/{number % 20}"},
                    "effectiveDateTime": f"2024-03-{number % 28 + 1:02}T10:00:00Z",
                }
                for number in range(60)
            )
        )
        # The first search learns that all versions say their owner.
        driver.search("Observation?_count=1")
        yield driver
        driver.close()


def newest(driver, patient, **more):
    asked = f"Observation?patient=Patient/{patient}&code=urn:s|bp&_sort=-date&_count=2"
    return driver.query(asked)._replace(**more)


def at_once(driver, commands, *asked):
    async def gathered():
        return await asyncio.gather(*asked)

    commands.begun.clear()
    return driver.run(gathered())


def test_reads_at_once_are_one_command_for_each_type(filled, commands):
    keys = [ResourceKey(name, f"o{n}") for n in range(60) for name in ("Observation", "Patient")]
    found = at_once(filled, commands, *map(filled.store.read, keys))
    assert [version is not None for version in found] == [True, False] * 60
    assert commands.begun == [("aggregate", "versions")] * 2


def test_a_read_alone_is_one_command(filled, commands):
    at_once(filled, commands, filled.store.read(ResourceKey("Observation", "o1")))
    assert commands.begun == [("find", "versions")]


def test_first_pages_at_once_are_one_command_and_of_one_moment(filled, commands):
    pages = at_once(filled, commands, *(filled.store.search(newest(filled, n)) for n in range(20)))
    assert commands.begun == [("aggregate", "state")]
    assert {page.as_of for page in pages} == {60}
    assert [len(page.versions) for page in pages] == [2] * 20


def test_bodies_of_first_pages_at_once_are_one_command(filled, commands):
    asked = [newest(filled, n) for n in range(20)]
    shown = at_once(filled, commands, *map(filled.store.first_page, asked))
    assert commands.begun == [("aggregate", "state")]
    pages = at_once(filled, commands, *map(filled.store.search, asked))
    assert [list(each.bodies) for each in shown] == [[v.body for v in p.versions] for p in pages]
    assert [each.next for each in shown] == [page.next for page in pages]


def test_what_has_no_first_page_is_not_tried_twice(filled, commands):
    oldest = filled.query("Observation?patient=Patient/1&_sort=date&_count=5")
    assert at_once(filled, commands, filled.store.first_page(oldest)) == [None]
    (page,) = at_once(filled, commands, filled.store.search(oldest))
    assert len(page.versions) == 3
    assert ("aggregate", "state") not in commands.begun


def test_who_wrote_the_end_of_the_commit_order_does_not_ask_for_it(filled, commands):
    def decide(tx):
        found = tx.changes(tx.changes(2**62, ["Device"])[0] - 1, ["Device"])
        filled.put(tx, {"resourceType": "Device", "id": f"d{found[0]}"})
        return found

    first, _ = filled.commit(decide)
    commands.begun.clear()
    newest, changed = filled.commit(lambda tx: tx.changes(first, ["Device", "Patient"]))
    assert (newest, [v.key.resource_type for v in changed]) == (first + 1, ["Device"])
    assert ("find", "versions") in commands.begun
    commands.begun.clear()
    assert filled.commit(lambda tx: tx.changes(first - 1, ["Patient"]))[1] == ()
    assert ("find", "versions") not in commands.begun


def test_the_same_page_for_many_is_found_once(filled, commands):
    pages = at_once(filled, commands, *(filled.store.search(newest(filled, 1)) for _ in range(20)))
    assert commands.begun == [("aggregate", "state")]
    assert len(set(pages)) == 1


def test_pages_of_one_patient_are_told_apart(filled, commands):
    other = filled.query("Observation?patient=Patient/1&_sort=-date&_count=3")
    found = at_once(
        filled, commands, *(filled.store.search(each) for each in (newest(filled, 1), other))
    )
    assert commands.begun == [("aggregate", "state")] * 2
    assert [len(page.versions) for page in found] == [2, 3]


def test_the_newest_sequence_is_asked_for_once_by_searches_at_once(filled, commands):
    query = filled.query("Observation?code=urn:s|bp&_count=2")
    at_once(filled, commands, *(filled.store.search(query) for _ in range(10)))
    assert commands.begun.count(("find", "state")) == 1
    assert commands.begun.count(("find", "versions")) == 10


def test_without_its_index_a_page_is_searched_for(filled, commands, monkeypatch):
    names = filled.store._connection.indexes._names
    monkeypatch.setitem(names, ("versions", "patient_code_date"), None)
    (page,) = at_once(filled, commands, filled.store.search(newest(filled, 1)))
    assert len(page.versions) == 2
    assert commands.begun == [("find", "state"), ("find", "versions")]


@pytest.mark.parametrize("code", [50, 246, 292], ids=["slow", "index came or went", "large"])
def test_pages_that_fail_together_are_searched_for_alone(filled, commands, admin, code):
    failing = {"failCommands": ["aggregate"], "errorCode": code, "appName": "fhir-server"}
    admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": failing})
    try:
        pages = at_once(
            filled, commands, *(filled.store.search(newest(filled, n)) for n in range(4))
        )
    finally:
        met = admin.command({"configureFailPoint": "failCommand", "mode": "off"})["count"]
    assert met
    assert [len(page.versions) for page in pages] == [2] * 4
    assert commands.begun.count(("find", "versions")) == 4


def test_one_who_may_see_less_is_not_given_the_page_of_another(filled, commands):
    hidden = filled.query("Observation?status=amended").criteria
    restricted = newest(filled, 1, restriction=Restriction((("Observation", hidden),)))
    own = filled.query("Observation?patient=Patient/1").criteria
    implied = newest(filled, 1, restriction=Restriction((("Observation", own),)))
    others = filled.query("Observation?patient=Patient/2").criteria
    foreign = newest(filled, 1, restriction=Restriction((("Observation", others),)))
    asked = (newest(filled, 1), restricted, implied, foreign)
    found = at_once(filled, commands, *map(filled.store.search, asked))
    assert [len(page.versions) for page in found] == [2, 0, 2, 0]
