"""A large store is checked by several processes, each reading parts of it."""

import asyncio
import sqlite3

from fhir_server.cli import check_store
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.settings import Settings


def test_a_store_is_checked_by_several_processes(tmp_path, monkeypatch):
    path = tmp_path / "fhir.db"
    monkeypatch.setattr(check_store, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(check_store, "_PART", 2)
    settings = Settings(store=f"sqlite:///{path}")

    def decide(tx):
        for number in range(5):
            key = ResourceKey("Patient", f"p{number}")
            tx.put(*next_version(None, key, {"resourceType": "Patient"}, tx.now))

    async def fill():
        store = check_store._open(settings)
        await store.commit(decide)
        await store.close()

    asyncio.run(fill())
    found = asyncio.run(check_store._check(settings, 2))
    assert found.faults == ()
    assert found.counts["versions"] == 5
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE body SET text = CAST(replace(text, 'p3', 'px') AS BLOB)")
    connection.close()
    faults = asyncio.run(check_store._check(settings, 2)).faults
    assert any("Patient/p3 version 1" in fault for fault in faults)
