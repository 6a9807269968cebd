"""A server's writing side, for tests that kill it: says each id when it is durable."""

import asyncio
import itertools
import sys
from datetime import UTC, datetime

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.index import Indexer
from fhir_server.core.version import next_version
from fhir_server.definitions import load
from fhir_server.store.open import open_store

PUTS = 3


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the clock of a process of its own


async def main(url: str, name: str) -> None:
    definitions = load()
    indexer = Indexer(definitions.parameters, definitions.element_types, "Europe/Moscow")
    store = open_store(url, indexer.index, definitions.parameters, now)
    numbers = itertools.count()

    async def write_without_end() -> None:
        while True:
            value = f"{name}-{next(numbers)}"

            def decide(tx, value=value):
                for part in range(PUTS):
                    key = ResourceKey("Patient", f"{value}-{part}")
                    identifier = [{"system": "urn:crash", "value": value}]
                    patient = {"resourceType": "Patient", "identifier": identifier}
                    version, stored = next_version(None, key, patient, tx.now)
                    tx.put(version, stored)
                    if part == 0:
                        tx.put(*next_version(version, key, {**stored, "active": True}, tx.now))
                tx.find("Patient", [("urn:crash", value)])

            await store.commit(decide)
            print(value, flush=True)  # noqa: T201 - what the test reads

    await asyncio.gather(*(write_without_end() for _ in range(6)))


asyncio.run(main(*sys.argv[1:]))
