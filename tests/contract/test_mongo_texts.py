"""What many say is kept once on MongoDB: found as before, in old stores as well."""

import time

import pytest
from pymongo import MongoClient

from fhir_server.store.mongo import documents, migration, rewriting, texts

LOINC = "http://loinc.org"
SEARCHES = (
    "Observation?_content=panel",
    "Observation?_content=pan",
    "Observation?_content=pressure panel",
    "Observation?code:text=blood",
    "Observation?code:text=pressure",
    "Observation?_text=high",
    "Observation?_content=own",
    "Patient?_has:Observation:patient:_content=panel",
    "Observation?_content=panel&code:text=blood&_sort=-date",
)


@pytest.fixture
def url(mongodb):
    return mongodb()


@pytest.fixture
def database(url):
    with MongoClient(url) as client:
        yield client.get_default_database()


@pytest.fixture
def often(monkeypatch):
    """How often a text is said before it is kept once."""
    monkeypatch.setattr(texts, "OFTEN", 3)
    monkeypatch.setattr(rewriting, "SETTLED_SECONDS", 0.05)
    monkeypatch.setattr(migration, "_AGAIN", 0.05)


@pytest.fixture
def driver(url, make_driver, often):
    made = make_driver(url)
    yield made
    made.close()


def reading(number, **changes):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {
            "coding": [{"system": LOINC, "code": "1-1", "display": "Pressure panel"}],
            "text": "Blood pressure",
        },
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": f"2024-05-01T12:00:{number:02d}Z",
        **changes,
    }


def write(driver, first, last):
    for number in range(first, last):
        driver.write(reading(number))


def own(number):
    narrative = {"status": "generated", "div": f"<div>high {number}</div>"}
    return reading(number, text=narrative, note=[{"text": "own words"}])


def answers(driver):
    return {search: driver.ids(search) for search in SEARCHES}


def index_keys(database, number):
    return database.versions.find_one({"k": f"o{number}"})["x"]


def is_rewritten(database):
    return database.state.find_one({"_id": "commits"}).get("texts") == "all"


def await_rewritten(database):
    until = time.monotonic() + 20
    while not is_rewritten(database):
        assert time.monotonic() < until
        time.sleep(0.02)


def make_old(database):
    """As a release before has left it."""
    database.state.update_one({"_id": "commits"}, {"$unset": {"texts": ""}})
    database.state.update_one({"_id": "schema"}, {"$set": {"version": 2}})
    assert database.texts.count_documents({}) == 0


def test_what_is_said_often_is_kept_once_and_found_as_before(driver, database):
    driver.write({"resourceType": "Patient", "id": "p"}, own(0))
    write(driver, 1, 10)
    assert [len(texts.named(index_keys(database, n))) for n in (0, 1, 3, 9)] == [0, 0, 0, 1]
    assert not [key for key in index_keys(database, 9) if key.startswith("_content")]
    assert "tt" not in database.versions.find_one({"k": "o9"})
    assert database.texts.count_documents({}) == 1
    found = answers(driver)
    every = [f"o{number}" for number in range(10)]
    assert found["Observation?_content=panel"] == every
    assert found["Observation?_content=pan"] == []
    assert found["Observation?code:text=blood"] == every
    assert found["Observation?code:text=pressure"] == every
    assert found["Observation?_text=high"] == found["Observation?_content=own"] == ["o0"]
    assert found["Patient?_has:Observation:patient:_content=panel"] == ["p"]
    assert found["Observation?_content=panel&code:text=blood&_sort=-date"] == every[::-1]
    assert driver.store.check().faults == ()


def test_another_process_uses_what_is_kept_and_a_decision_finds_it(driver, database):
    write(driver, 0, 10)
    other = driver.open_another()
    for number in range(10, 20):
        driver.run(other.commit(lambda tx, n=number: driver.put(tx, reading(n))))
    assert database.texts.count_documents({}) == 1
    assert len(texts.named(index_keys(database, 19))) == 1

    def decide(tx):
        driver.put(tx, reading(20))
        return [
            v.key.resource_id
            for v in tx.search(driver.query("Observation?_content=panel")).versions
        ]

    assert driver.commit(decide) == [f"o{number}" for number in range(21)]


def test_there_are_not_more_texts_of_a_type_than_an_index_is_merged_of(
    driver, database, monkeypatch
):
    monkeypatch.setattr(texts, "_MOST_OF_A_TYPE", 2)
    for word in ("one", "two", "three"):
        for number in range(8):
            driver.write(reading(number, note=[{"text": word}]))
    assert database.texts.count_documents({}) == 2
    assert driver.ids("Observation?_content=three") == [f"o{number}" for number in range(8)]


def test_reindexing_leaves_what_is_kept_once_and_check_sees_what_is_wrong(driver, database):
    write(driver, 0, 10)
    before = index_keys(database, 9)
    driver.run(driver.store.reindex())
    assert index_keys(database, 9) == before
    key = texts.named(before)[0]
    database.versions.update_one({"k": "o8"}, {"$pull": {"x": key}})
    assert {fault[:24] for fault in driver.store.check().faults} == {"Observation/o8 version 1"}
    driver.run(driver.store.reindex())
    assert driver.store.check().faults == ()
    assert "o8" in driver.ids("Observation?_content=panel")
    kept = database.texts.find_one_and_delete({})
    assert "Observation/o9 version 1 names a text that is not kept" in driver.store.check().faults
    database.texts.insert_one({**kept, "x": ["_content\x1fother\x1f"]})
    assert f"the text {key!r} says something else" in driver.store.check().faults


def test_a_version_that_was_left_half_rewritten_is_right_and_found_once(driver, database):
    write(driver, 0, 10)
    words = [key for key in index_keys(database, 0) if key.startswith("_content")]
    spoken = database.versions.find_one({"k": "o0"})["tt"]
    half = {"$push": {"x": {"$each": words}}, "$set": {"tt": spoken}}
    database.versions.update_one({"k": "o9"}, half)
    every = [f"o{number}" for number in range(10)]
    assert driver.ids("Observation?_content=panel") == every
    assert driver.ids("Observation?code:text=blood") == every
    assert driver.store.check().faults == ()


def test_a_store_of_a_release_before_is_rewritten_while_it_is_searched(
    url, make_driver, database, often, monkeypatch
):
    monkeypatch.setattr(texts, "OFTEN", 1_000)
    before = make_driver(url)
    before.write({"resourceType": "Patient", "id": "p"}, own(0))
    write(before, 1, 10)
    expected = answers(before)
    before.close()
    make_old(database)
    # Its timelines had the code that is none, too.
    database.versions.update_one({"k": "o3"}, {"$push": {"hc": "\x1f"}})
    monkeypatch.setattr(texts, "OFTEN", 3)
    monkeypatch.setattr(rewriting, "_AT_ONCE", 4)
    after = make_driver(url)
    while not is_rewritten(database):
        assert answers(after) == expected
    assert answers(after) == expected
    assert database.texts.count_documents({}) == 1
    # What was said before it was said often keeps its words.
    named = [len(texts.named(index_keys(database, n))) for n in (0, 1, 3, 9)]
    assert named == [0, 0, 1, 1]
    assert "tt" not in database.versions.find_one({"k": "o9"})
    assert after.store.check().faults == ()
    after.close()


def test_no_version_names_a_text_while_processes_of_the_release_before_live(
    url, make_driver, database, often
):
    make_driver(url).close()
    make_old(database)
    alive = {"$currentDate": {"at": True}, "$set": {"schema": documents.SCHEMA_VERSION - 1}}
    database.sessions.update_one({"_id": "of a release before"}, alive, upsert=True)
    driver = make_driver(url)
    write(driver, 0, 10)
    assert database.texts.count_documents({}) == 0
    database.sessions.delete_one({"_id": "of a release before"})
    await_rewritten(database)
    write(driver, 10, 20)
    assert len(texts.named(index_keys(database, 19))) == 1
    assert driver.ids("Observation?_content=panel") == [f"o{number}" for number in range(20)]
    driver.close()
