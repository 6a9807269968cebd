"""Indexes of a later release are built while the store is used, and old ones go in time."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from bson import ObjectId
from pymongo import MongoClient

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.entry import IndexEntries, TokenEntry
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import next_version
from fhir_server.store.mongo import migration
from fhir_server.store.mongo.store import open_mongo
from tests.provision import mongod as provision

COUNT = 20


@pytest.fixture(scope="module")
def mongod(tmp_path_factory):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("a MongoDB that is not ours is not made to hang")
    with provision.node(tmp_path_factory.mktemp("mongod")) as node:
        yield node


@pytest.fixture
def url(mongod):
    return mongod.url(f"indexes-{ObjectId()}")


@pytest.fixture
def database(url):
    """A filled store's, after its processes are gone."""

    async def fill():
        store = opened(url)
        for number in range(COUNT):
            await store.commit(creating(f"p{number}"))
        await store.close()

    asyncio.run(fill())
    with MongoClient(url) as client:
        yield client.get_default_database()


@contextmanager
def builds_held(database):
    """Index builds begin within the block and end behind it."""
    point = {"configureFailPoint": "hangAfterStartingIndexBuild"}
    database.client.admin.command({**point, "mode": "alwaysOn"})
    try:
        yield
    finally:
        database.client.admin.command({**point, "mode": "off"})


def index(resource):
    value = resource.get("identifier")
    return IndexEntries(tokens=(TokenEntry("identifier", "s", value, True),) if value else ())


def opened(url):
    return open_mongo(
        url, index, SearchParameters(()), lambda: datetime.fromtimestamp(time.time(), UTC)
    )


def creating(value):
    """Create a Patient with this identifier unless there is one."""

    def decide(tx):
        if found := tx.find("Patient", [("s", value)]):
            return found["s", value][0]
        key = ResourceKey("Patient", value)
        resource = {"resourceType": "Patient", "identifier": value}
        version, stored = next_version(None, key, resource, tx.now)
        tx.put(version, stored)
        return key

    return decide


def names(database, collection="versions"):
    return set(database[collection].index_information())


async def wait_until(holds, seconds=20.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


def is_up_to_date(store):
    indexes = store._connection.indexes
    return not indexes.look(store._connection.database)


def test_a_new_index_is_built_while_reads_and_writes_go_on(url, database):
    for name in ("keys", "resource"):
        database.versions.drop_index(name)

    async def scene():
        with builds_held(database):
            begun = time.monotonic()
            stores = [opened(url), opened(url)]
            assert time.monotonic() - begun < 5
            await wait_until(lambda: {"keys", "resource"} <= names(database))
            for store in stores:
                assert await store.read(ResourceKey("Patient", "p3")) is not None
                assert await store.commit(creating("p3")) == ResourceKey("Patient", "p3")
            await stores[0].commit(creating("while"))
            assert not is_up_to_date(stores[1])
        for store in stores:
            await wait_until(lambda store=store: is_up_to_date(store))
            assert await store.commit(creating("while")) == ResourceKey("Patient", "while")
        checked = await asyncio.to_thread(stores[0].check)
        assert checked.faults == ()
        assert checked.counts["versions"] == COUNT + 1
        for store in stores:
            await store.close()

    asyncio.run(scene())


def test_deliveries_wait_for_their_index_and_the_rest_does_not(url, database):
    database.deliveries.drop_index("due")

    async def scene():
        with builds_held(database):
            # Nothing was delivered yet, but the store is no new one.
            store = opened(url)
            assert await store.commit(creating("p3")) == ResourceKey("Patient", "p3")
        await wait_until(lambda: is_up_to_date(store))
        assert store.outbox.claim("sink", "owner", 1.0, 1) == ()
        await store.close()

    asyncio.run(scene())


def test_an_index_whose_definition_changed_is_replaced_when_older_processes_are_gone(
    url, database, monkeypatch
):
    monkeypatch.setattr(migration, "_GONE_AFTER", 1_000)
    monkeypatch.setattr(migration, "_AGAIN", 0.1)
    database.versions.drop_index("type_date")
    database.versions.create_index([("y", 1), ("hd", 1)], name="type_date")
    database.versions.create_index([("u", 1)], name="an operator's own")

    def show_life():
        at = {"$currentDate": {"at": True}}
        database.sessions.update_one({"_id": "of a release before"}, at, upsert=True)

    async def scene():
        show_life()
        store = opened(url)
        await wait_until(lambda: "type_date~2" in names(database) and is_up_to_date(store))
        for _ in range(5):
            show_life()
            await asyncio.sleep(0.1)
            # Its processes hint at it by name.
            assert "type_date" in names(database)
        assert store._connection.indexes.hint("versions", "type_date") == "type_date~2"
        await wait_until(lambda: "type_date" not in names(database))
        assert {"type_date~2", "an operator's own"} <= names(database)
        await store.close()
        again = opened(url)
        assert again._connection.indexes.hint("versions", "type_date") == "type_date~2"
        await again.close()

    asyncio.run(scene())


def test_several_that_start_at_once_build_an_index_once(url, database):
    database.versions.drop_index("keys")
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(opened, [url] * 4))

    async def scene():
        for store in stores:
            await wait_until(lambda store=store: is_up_to_date(store))
            await store.close()

    asyncio.run(scene())
    assert "keys" in names(database)
    assert not any("~" in name for name in names(database))
