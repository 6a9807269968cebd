"""Which commands name whose record is wanted: those go to one shard, the others to all."""

import pytest
from pymongo import MongoClient, monitoring

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.errors import VersionConflict
from fhir_server.store.mongo import documents, migration

OWNER = "p"


class Commands(monitoring.CommandListener):
    """What was asked of the versions: the filter of each query, and of each branch of one."""

    def __init__(self):
        self.filters = []

    def started(self, event):
        command = event.command
        is_of_versions = command.get(event.command_name) == "versions"
        if event.command_name == "find" and is_of_versions:
            self.filters.append(command["filter"])
        elif event.command_name == "aggregate":
            branches = [
                stage["$unionWith"] for stage in command["pipeline"] if "$unionWith" in stage
            ]
            pipelines = [each["pipeline"] for each in branches if each["coll"] == "versions"]
            if is_of_versions:
                pipelines.append(command["pipeline"])
            self.filters += [pipeline[0]["$match"] for pipeline in pipelines]

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


@pytest.fixture(scope="module")
def filled(url, make_driver, commands):
    options = documents._options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_options", lambda: options() | {"event_listeners": [commands]})
        driver = make_driver(url)
        driver.write(*RESOURCES)
        yield driver
        driver.close()


@pytest.fixture
def database(url):
    with MongoClient(url) as client:
        yield client.get_default_database()


def observation(name, patient, **more):
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "urn:c", "code": "x"}]},
        "effectiveDateTime": "2024-03-05",
        **({"subject": {"reference": patient}} if patient else {}),
        **more,
    }


RESOURCES = [
    {"resourceType": "Patient", "id": "a", "identifier": [{"system": "urn:i", "value": "1"}]},
    {"resourceType": "Patient", "id": "b"},
    observation("a1", "Patient/a"),
    observation("a2", "Patient/a", effectiveDateTime="2024-04"),
    observation("b1", "Patient/b"),
    observation("none", None),
    observation("of-a-device", "Device/d"),
    {
        "resourceType": "Account",
        "id": "both",
        "status": "active",
        "subject": [{"reference": f"Patient/{name}"} for name in "ab"],
    },
    {
        "resourceType": "DeviceUseStatement",
        "id": "u",
        "status": "active",
        "subject": {"reference": "Patient/a"},
        "device": {"reference": "Device/d"},
    },
]

TARGETED = [
    ("Observation?patient=a&_sort=-date", ["a2", "a1"]),
    ("Observation?patient=Patient/a&code=urn:c|x&_sort=-date&_count=2", ["a2", "a1"]),
    ("Observation?subject=Patient/a&code=urn:c|x&date=ge2024-04-01", ["a2"]),
    ("Observation?subject=Patient/b", ["b1"]),
    ("Observation?patient=a&code=urn:c|x&date=ge2024-04-01&_sort=-date", ["a2"]),
    ("Observation?patient=a,b&_sort=date&_total=accurate", ["a1", "b1", "a2"]),
    ("Observation?patient=a&_sort=_id", ["a1", "a2"]),
    ("Observation?patient=a&_count=0&_total=accurate", []),
    ("DeviceUseStatement?patient=Patient/a", ["u"]),
    ("Account?patient=a", ["both"]),
    ("Account?patient=b", ["both"]),
]
SCATTERED = [
    ("Observation?code=urn:c|x&_sort=-_id&_count=1", ["of-a-device"]),
    ("Observation?subject=Device/d", ["of-a-device"]),
    ("Observation?subject=Patient/a,Device/d", ["a1", "a2", "of-a-device"]),
    ("Observation?_id=a1", ["a1"]),
    ("Patient?identifier=urn:i|1", ["a"]),
    ("DeviceUseStatement?device=Device/d", ["u"]),
    ("Patient?_has:Observation:patient:code=urn:c|x", ["a", "b"]),
]


def asked(filled, commands, search):
    query = filled.query(search)
    commands.filters.clear()
    page = filled.run(filled.store.search(query))
    assert commands.filters
    return [version.key.resource_id for version in page.versions]


@pytest.mark.parametrize(("search", "found"), TARGETED)
def test_a_search_for_patients_names_them_in_every_query(filled, commands, search, found):
    assert asked(filled, commands, search) == found
    for filter_ in commands.filters:
        *patients, shared = filter_[OWNER]["$in"]
        assert shared == ""
        assert set(patients) <= {"a", "b"}
        assert patients


@pytest.mark.parametrize(("search", "found"), SCATTERED)
def test_a_search_for_anything_else_asks_all_shards(filled, commands, search, found):
    assert asked(filled, commands, search) == found
    assert all(OWNER not in filter_ for filter_ in commands.filters)


def test_a_chain_finds_the_patient_on_all_shards_and_the_rest_on_its_own(filled, commands):
    assert asked(filled, commands, "Observation?patient.identifier=urn:i|1") == ["a1", "a2"]
    first, *others = commands.filters
    assert OWNER not in first
    assert [filter_[OWNER] for filter_ in others] == [{"$in": ["a", ""]}]


def test_a_moment_becomes_a_sequence_on_all_shards_and_the_rest_is_the_patients(filled, commands):
    search = "Observation?patient=a&_lastUpdated=ge2000-01-01"
    assert asked(filled, commands, search) == ["a1", "a2"]
    others = [filter_ for filter_ in commands.filters if "m" not in filter_]
    assert len(others) == len(commands.filters) - 1
    assert all(OWNER in filter_ for filter_ in others)


def test_a_search_within_a_commit_names_the_patient_too(filled, commands):
    query = filled.query("Observation?patient=a&code=urn:c|x&_sort=-date")
    commands.filters.clear()
    filled.commit(lambda tx: tx.search(query))
    assert commands.filters
    assert all(OWNER in filter_ for filter_ in commands.filters)


@pytest.mark.parametrize(
    ("name", "owner"),
    [("a1", "a"), ("b1", "b"), ("none", "none"), ("of-a-device", "of-a-device"), ("both", "")],
)
def test_the_owner_is_the_one_patient_or_the_resource_itself(filled, database, name, owner):
    assert database.versions.find_one({"k": name})[OWNER] == owner


def test_versions_of_the_release_before_are_given_their_owner(
    mongodb, make_driver, monkeypatch, commands
):
    monkeypatch.setattr(migration, "_AGAIN", 0.05)
    monkeypatch.setattr(migration, "_GONE_AFTER", 300)
    monkeypatch.setattr(migration, "_AT_ONCE", 2)
    url = mongodb()
    old = make_driver(url)
    old.write(*RESOURCES)
    old.delete(ResourceKey("Observation", "b1"))
    old.close()
    with MongoClient(url) as client:
        database = client.get_default_database()
        right = list(database.versions.find({}, {OWNER: 1}))
        database.versions.update_many({}, {"$unset": {OWNER: ""}})
        database.state.update_one({"_id": "commits"}, {"$unset": {"owned": ""}})
        database.state.update_one({"_id": "schema"}, {"$set": {"version": 1}})
        life = {"$currentDate": {"at": True}}
        database.sessions.update_one({"_id": "a process of it"}, life, upsert=True)
        new = make_driver(url)
        # Until all are known to have one, nobody is looked for by it.
        assert new.ids("Observation?patient=a") == ["a1", "a2"]
        new.store._connection.migration._thread.join(20)
        assert list(database.versions.find({}, {OWNER: 1})) == right
        assert database.state.find_one({"_id": "schema"})["version"] == documents.SCHEMA_VERSION
        assert database.state.find_one({"_id": "commits"})["owned"]
    assert new.ids("Observation?patient=a") == ["a1", "a2"]
    assert new.store.check().faults == ()
    new.close()


def test_over_shards_nothing_is_created_twice_without_a_unique_index(
    mongodb, make_driver, monkeypatch
):
    url = mongodb()
    make_driver(url).close()
    declared = documents._declared_indexes
    connected = documents._connection

    def as_through_a_router(*arguments):
        return connected(*arguments)._replace(is_sharded=True)

    monkeypatch.setattr(
        documents, "_declared_indexes", lambda is_sharded: declared(is_sharded=True)
    )
    monkeypatch.setattr(documents, "_connection", as_through_a_router)
    monkeypatch.setattr(migration, "_AGAIN", 0.05)
    driver = make_driver(url)
    driver.store._connection.migration._thread.join(20)
    with MongoClient(url) as client:
        indexes = client.get_default_database().versions.index_information()
    assert "resource" not in indexes
    assert "unique" not in indexes["resource~2"]
    driver.write(observation("o", "Patient/a"))

    def again(tx):
        key = ResourceKey("Observation", "o")
        tx.put(*next_version(None, key, observation("o", "Patient/b"), tx.now))

    with pytest.raises(VersionConflict):
        driver.commit(again)
    driver.write(observation("o", "Patient/b"))
    assert driver.ids("Observation?patient=b") == ["o"]
    assert driver.store.check().faults == ()
    driver.close()
