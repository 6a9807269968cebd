"""A process that stands still in the middle of a commit: `mongo_holder.py URL`."""

import asyncio
import sys
import time
from datetime import UTC, datetime

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import next_version
from fhir_server.store.mongo.store import open_mongo


def now():
    return datetime.fromtimestamp(time.time(), UTC)


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(url):
    store = open_mongo(url, lambda _: IndexEntries(), SearchParameters(()), now)

    def decide(tx):
        key = ResourceKey("Patient", "held")
        version, resource = next_version(tx.read(key), key, {"resourceType": "Patient"}, tx.now)
        tx.put(version, resource)
        say("holding")
        time.sleep(1)
        return version

    version = await store.commit(decide)
    say(f"committed {version.version_id}")
    await store.close()


asyncio.run(main(sys.argv[1]))
