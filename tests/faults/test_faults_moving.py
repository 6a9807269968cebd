"""A move that is killed goes on where it was: the same bytes, history and digest at the end."""

import asyncio
import json
import os
import subprocess
import sys
import time

import pytest
from pymongo import MongoClient

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import deletion, next_version
from fhir_server.settings import Settings
from tests import ended
from tests.faults.kit import SCALE
from tests.provision import mongod as provision

PATIENTS = int(120 * SCALE)
PADDING = "x" * 60_000


@pytest.fixture
def mongo_url(tmp_path):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("the move gets a MongoDB of its own")
    with provision.node(tmp_path / "mongod") as node:
        yield node.url("moved")


def fill(url):
    """Patients that are changed, deleted and made again, too large for one batch."""

    async def scene():
        store = open_components(Settings(store=url)).store

        def decide(tx):
            for number in range(PATIENTS):
                key = ResourceKey("Patient", f"p{number}")
                name = [{"family": "Иванова", "given": [PADDING]}]
                for active in (True, False):
                    body = {"resourceType": "Patient", "name": name, "active": active}
                    tx.put(*next_version(tx.read(key), key, body, tx.now))
                tx.put(deletion(tx.read(key), tx.now), None)
                tx.put(*next_version(tx.read(key), key, {"resourceType": "Patient"}, tx.now))

        await store.commit(decide)
        await store.close()

    asyncio.run(scene())


def run(*arguments):
    code, said = ended.run(*arguments)
    assert code == 0, said
    return said


def kill_when(holds, *arguments):
    """Start a command and kill it when something holds, which the command brings about."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fhir_server", *map(str, arguments)], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not holds():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()


def manifest(path):
    return json.loads(path.with_name(path.name + ".manifest.json").read_text())


def test_a_killed_export_and_import_go_on_and_everything_arrives_there_and_back(
    tmp_path, mongo_url
):
    source, back = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "back"))
    fill(source)
    first, second, third = (tmp_path / f"{name}.ndjson" for name in ("first", "second", "third"))

    kill_when(
        lambda: first.exists() and first.stat().st_size > 0, "export", first, "--store", source
    )
    assert not first.with_name(first.name + ".manifest.json").exists()
    with first.open("ab") as torn:
        torn.write(b'{"sequence":9999,"resourceType":"Pat')
    run("export", first, "--store", source)

    with MongoClient(mongo_url) as client:
        state = client.get_default_database()["state"]
        kill_when(
            lambda: (state.find_one({"_id": "commits"}) or {"sequence": 0})["sequence"] > 0,
            *("import", first, "--store", mongo_url),
        )
        restored = state.find_one({"_id": "commits"})["sequence"]
    assert 0 < restored < PATIENTS * 4
    assert f"{restored} were there" in run("import", first, "--store", mongo_url)
    run("export", second, "--store", mongo_url)
    run("import", second, "--store", back)
    run("export", third, "--store", back)

    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert manifest(first)["versions"] == PATIENTS * 4
    assert {manifest(path)["digest"] for path in (first, second, third)} == {
        manifest(first)["digest"]
    }
    for store in (mongo_url, back):
        assert "nothing is wrong" in run("check-store", "--store", store)
