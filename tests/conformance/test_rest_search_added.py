"""A SearchParameter that is posted is live after `fhir-server reindex`, on a running server."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.settings import Settings
from tests import ended
from tests.conformance.conftest import Client, Server

NICKNAME = {
    "resourceType": "SearchParameter",
    "url": "https://pmp.example/fhir/SearchParameter/nickname",
    "name": "Nickname",
    "status": "active",
    "description": "what a patient is called by",
    "code": "nickname",
    "base": ["Patient"],
    "type": "string",
    "expression": "Patient.name.where(use='nickname').given",
}


def patient(number):
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "name": [{"use": "nickname", "given": [f"N{number % 7}"]}],
    }


def fill(url, count):
    async def write():
        store = open_components(Settings(store=url)).store

        def decide(tx):
            for number in range(count):
                resource = patient(number)
                key = ResourceKey("Patient", resource["id"])
                tx.put(*next_version(None, key, resource, tx.now))

        await store.commit(decide)
        await store.close()

    asyncio.run(write())


def start(url):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FHIR_SERVER_")}
    return subprocess.Popen(
        [sys.executable, "-m", "fhir_server", "reindex", "--store", url],
        env=inherited,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reindex(url):
    return ended.run("reindex", "--store", url)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fhir.db"


def wait_until_known(client, search):
    deadline = time.monotonic() + 10
    while client.get(search, headers={"Prefer": "handling=strict"}).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_posted_parameter_is_live_after_a_reindex_that_was_killed_once(path):
    url = f"sqlite:///{path}"
    fill(url, 2_000)
    with Server(store=url) as running:
        client = Client(running)
        client.create(NICKNAME)
        strict = {"Prefer": "handling=strict"}
        assert client.get("Patient?nickname=n3", headers=strict).status_code == 400
        process = start(url)
        watch = sqlite3.connect(path)
        position = "SELECT value FROM meta WHERE name = 'reindex_position'"
        while process.poll() is None and not (watch.execute(position).fetchone() or [0])[0]:
            time.sleep(0.002)
        watch.close()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        client.put("Patient/late", {**patient(3), "id": "late"})
        assert client.get("Patient?_summary=count").json()["total"] == 2_001
        code, said = reindex(url)
        assert code == 0, said
        assert "Patient?nickname" in said
        wait_until_known(client, "Patient?nickname=n3")
        total = len([n for n in range(2_000) if n % 7 == 3]) + 1
        assert client.get("Patient?nickname=n3&_summary=count").json()["total"] == total
        client.put("Patient/later", {**patient(3), "id": "later"})
        assert "Patient/later" in client.found("Patient?nickname=n3&_count=500")
        stated = client.get("metadata").json()["rest"][0]["resource"]
        (of_patient,) = (r for r in stated if r["type"] == "Patient")
        assert "nickname" in {p["name"] for p in of_patient["searchParam"]}
    code, said = ended.run("check-store", "--store", url)
    assert code == 0, said


def test_a_definition_that_cannot_be_used_is_named_and_stops_no_other(path):
    url = f"sqlite:///{path}"
    fill(url, 3)
    with Server(store=url) as running:
        client = Client(running)
        wrong = client.create({**NICKNAME, "code": "wrong", "expression": "Patient.nothing"})
        client.create({**NICKNAME, "code": "draft", "status": "draft"})
        client.create(NICKNAME)
        code, said = reindex(url)
        assert code == 1
        assert f"SearchParameter/{wrong['id']}: expression" in said
        assert "added parameters: Patient?nickname" in said
        wait_until_known(client, "Patient?nickname=n1")
        assert client.found("Patient?nickname=n1") == ["Patient/p1"]


def test_a_store_that_is_not_there_is_said(tmp_path):
    code, said = reindex(f"sqlite:///{tmp_path}/none.db")
    assert code == 2
    assert "there is no store" in said
