"""What only the MongoDB store has to show: its index entries are kept, mended and dropped."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pymongo import MongoClient

from fhir_server.core.identity import ResourceKey
from fhir_server.errors import Gone, Unsupported
from fhir_server.store.mongo import documents


@pytest.fixture
def url(mongodb):
    return mongodb()


@pytest.fixture
def mongo(url, make_driver):
    driver = make_driver(url)
    yield driver
    driver.close()


@pytest.fixture
def database(url):
    with MongoClient(url) as client:
        yield client.get_default_database()


def patient(name):
    return {"resourceType": "Patient", "id": "a", "name": [{"family": name}]}


def test_a_purge_drops_entries_and_keeps_versions(mongo):
    mongo.write(patient("Old"))
    before = mongo.search("Patient?name=old").as_of
    mongo.clock.advance(3600)
    mongo.write(patient("New"))
    assert mongo.ids("Patient?name=old", as_of=before) == ["a"]
    mongo.clock.advance(3600)
    mongo.write({"resourceType": "Patient", "id": "b"})
    assert mongo.run(mongo.store.purge(mongo.clock())) == 1
    with pytest.raises(Gone):
        mongo.ids("Patient?name=old", as_of=before)
    assert mongo.ids("Patient?name=new") == ["a"]
    assert mongo.run(mongo.store.vread(ResourceKey("Patient", "a"), 1)).body is not None
    assert mongo.store.check().faults == ()


def test_reindexing_mends_entries_and_check_says_which_were_wrong(mongo, database):
    mongo.write(patient("Right"), {"resourceType": "Patient", "id": "b"})
    database.versions.update_one({"_id": 1}, {"$set": {"x": ["", "name\x1fwrong"]}})
    assert mongo.ids("Patient?name=wrong") == ["a"]
    assert len(mongo.store.check().faults) == 1
    told = []
    mongo.run(mongo.store.reindex(told.append))
    assert told == [2]
    assert mongo.ids("Patient?name=right") == ["a"]
    assert mongo.store.check().faults == ()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"_id": 2}, "sequence 2 is missing"),
        ({"_id": 1}, "Patient/a version 2 does not follow the version before"),
    ],
)
def test_check_finds_what_is_gone(mongo, database, change, fault):
    mongo.write(patient("One"))
    mongo.write(patient("Two"))
    mongo.write(patient("Three"))
    database.versions.delete_one(change)
    assert fault in mongo.store.check().faults


def test_a_store_of_a_newer_release_is_refused(mongo, database):
    database.state.update_one({"_id": "schema"}, {"$set": {"version": 1_000}})
    with pytest.raises(Unsupported):
        mongo.open_another()


def test_a_store_may_be_set_up_by_several_at_once(url):
    with ThreadPoolExecutor(4) as threads:
        connections = list(threads.map(documents.connect, [url] * 4))
    database = connections[0].database
    assert database["state"].find_one({"_id": "commits"})["sequence"] == 0
    assert "keys" in database["versions"].index_information()
    for connection in connections:
        connection.close()
