"""MongoDB and the processes that use it are killed, stopped and cut off in mid-commit.

What was acknowledged is there once, the commit order has no gap, nobody waits for the dead.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.entry import IndexEntries, TokenEntry
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import next_version
from fhir_server.errors import StoreUnavailable
from fhir_server.store.mongo.committer import GroupLimits
from fhir_server.store.mongo.store import open_mongo
from tests.provision import mongod as provision

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mongod(tmp_path_factory):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("a MongoDB that is not ours is not killed")
    try:
        node = provision.provide(tmp_path_factory.mktemp("mongod"))
    except provision.NotToBeHad as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"MongoDB is needed: {error}")
        pytest.skip(f"no MongoDB: {error}")
    yield node
    node.kill()


def index(resource):
    value = resource.get("identifier")
    return IndexEntries(tokens=(TokenEntry("identifier", "s", value, True),) if value else ())


def opened(url, patience=15.0):
    return open_mongo(
        url,
        index,
        SearchParameters(()),
        lambda: datetime.fromtimestamp(time.time(), UTC),
        limits=GroupLimits(patience=patience),
    )


def creating(value):
    """Create a Patient with this identifier unless there is one."""

    def decide(tx):
        found = tx.find("Patient", [("s", value)])
        if found:
            return found["s", value][0]
        key = ResourceKey("Patient", value)
        resource = {"resourceType": "Patient", "identifier": value}
        version, stored = next_version(None, key, resource, tx.now)
        tx.put(version, stored)
        return key

    return decide


def holder(url):
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests/faults/mongo_holder.py", url],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdout.readline() == "holding\n"
    return process


def assert_sound(store, versions):
    checked = store.check()
    assert checked.faults == ()
    assert checked.counts["versions"] == versions


def test_a_process_killed_in_mid_commit_holds_nobody_up(mongod):
    url = mongod.url("killed")

    async def scene():
        store = opened(url)
        with holder(url) as process:
            process.kill()
        begun = time.monotonic()
        await store.commit(creating("a"))
        waited = time.monotonic() - begun
        assert await store.read(ResourceKey("Patient", "held")) is None
        assert_sound(store, 1)
        await store.close()
        return waited

    # MongoDB itself would keep the dead process's transaction for a minute.
    assert asyncio.run(scene()) < 15


def test_a_process_stopped_in_mid_commit_decides_again_when_it_goes_on(mongod):
    url = mongod.url("stopped")

    async def scene():
        store = opened(url)
        with holder(url) as process:
            process.send_signal(signal.SIGSTOP)
            await store.commit(creating("a"))
            process.send_signal(signal.SIGCONT)
            # Its decision ran again: the first run's moment was no longer the newest.
            assert process.stdout.readline() == "holding\n"
            assert process.stdout.readline() == "committed 1\n"
        assert [v.key.resource_id for v in await store.changes(0, 9)] == ["a", "held"]
        assert_sound(store, 2)
        await store.close()

    asyncio.run(scene())


@pytest.mark.parametrize("how", ["killed", "hung", "stepped-down"])
def test_what_was_acknowledged_survives_a_database_that_goes_away(mongod, how):
    url = mongod.url(f"away-{how}")

    async def scene():
        stores = [opened(url), opened(url)]
        acknowledged, over = set(), asyncio.Event()

        async def client(number):
            count = 0
            while not over.is_set():
                value = f"{number}-{count}"
                # The same is asked of both stores, and again after a refusal.
                for store in stores:
                    try:
                        await store.commit(creating(value))
                        acknowledged.add(value)
                    except StoreUnavailable:
                        continue
                count += 1

        clients = [asyncio.create_task(client(number)) for number in range(6)]
        for _ in range(2):
            await asyncio.sleep(0.7)
            if how == "killed":
                mongod.kill()
                await asyncio.sleep(0.5)
                mongod.start()
            elif how == "stepped-down":
                await asyncio.to_thread(mongod.step_down, 1)
            else:
                mongod.send(signal.SIGSTOP)
                await asyncio.sleep(2)
                mongod.send(signal.SIGCONT)
            before = len(acknowledged)
            while len(acknowledged) < before + 50:  # noqa: ASYNC110 - a count, not an event
                await asyncio.sleep(0.05)
        over.set()
        await asyncio.gather(*clients)
        stored = [v.key.resource_id for v in await stores[0].changes(0, 100_000)]
        assert len(stored) == len(set(stored))
        assert acknowledged <= set(stored)
        assert_sound(stores[1], len(stored))
        for store in stores:
            await store.close()

    asyncio.run(asyncio.wait_for(scene(), 120))


def test_while_the_database_is_away_commits_are_refused_and_nothing_is_kept(mongod):
    url = mongod.url("refused")

    async def scene():
        store = opened(url, patience=1.0)
        await store.commit(creating("a"))
        mongod.send(signal.SIGSTOP)
        try:
            mongod.kill()
            assert not await store.is_ready()
            with pytest.raises(StoreUnavailable):
                await store.commit(creating("b"))
            with pytest.raises(StoreUnavailable):
                await store.read(ResourceKey("Patient", "a"))
        finally:
            mongod.start()
        while not await store.is_ready():  # noqa: ASYNC110 - asked, not told
            await asyncio.sleep(0.1)
        assert await store.read(ResourceKey("Patient", "b")) is None
        await store.commit(creating("b"))
        assert_sound(store, 2)
        await store.close()

    asyncio.run(asyncio.wait_for(scene(), 60))
