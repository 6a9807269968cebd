"""The machine's clock jumps: the order of time never goes back, and a lease has one holder."""

import asyncio
import itertools
import os
import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests

from adapters.national_registry.translate import SNILS_SYSTEM
from fhir_server import app
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM
from fhir_server.core.version import next_version
from fhir_server.outbox.worker import Worker
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState, Routed
from tests.conformance.conftest import Server
from tests.faults.delivery_worker import PACE
from tests.faults.kit import SCALE, Writer, assert_each_once, wait_until, writing
from tests.faults.kit import registry as running_registry
from tests.provision import mongod as provision

JUMPS = int(12 * SCALE)
HOUR = 3_600


class Clock:
    """The machine's time, and how far it is wrong."""

    def __init__(self, wrong_by=0.0):
        self.wrong_by = wrong_by

    def __call__(self):
        return datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=self.wrong_by)


@pytest.fixture(scope="module")
def mongo_urls(tmp_path_factory):
    """URLs of empty databases."""
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("clocks are tried on a MongoDB of their own")
    with provision.node(tmp_path_factory.mktemp("mongod")) as node:
        yield (node.url(f"clocks-{number}") for number in itertools.count())


@pytest.fixture(params=["sqlite", "mongo"])
def store_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fhir.db'}"
    return next(request.getfixturevalue("mongo_urls"))


@pytest.fixture
def opened(monkeypatch, store_url):
    """Opens the store with a clock of one's own."""
    made = []

    def make(clock):
        monkeypatch.setattr(app, "now", clock)
        made.append(app.open_components(Settings(store=store_url)))
        return made[-1]

    yield make
    for components in made:
        asyncio.run(components.store.close())


def times(url):
    """`lastUpdated` of all versions, oldest first."""
    found, link = [], f"{url}/fhir/_history?_count=500"
    while link:
        bundle = requests.get(link, timeout=30).json()
        found += [entry["resource"]["meta"]["lastUpdated"] for entry in bundle.get("entry", ())]
        link = {part["relation"]: part["url"] for part in bundle["link"]}.get("next")
    return found[::-1]


def test_the_order_of_time_never_goes_back_whatever_the_clocks_of_two_servers_do(
    monkeypatch, store_url, opened
):
    clocks = Clock(), Clock(-HOUR)
    servers = []
    for clock in clocks:
        # A server takes the clock that it finds when it starts.
        monkeypatch.setattr(app, "now", clock)
        servers.append(Server(store=store_url, page_key="the same", plan_templates=False))
        servers[-1].__enter__()
    try:
        writers = [Writer([server.url], f"w{n}") for n, server in enumerate(servers)]
        chance = random.Random(3)
        with writing(writers):
            for _ in range(JUMPS):
                before = [len(writer.acknowledged) for writer in writers]
                for clock in clocks:
                    clock.wrong_by = chance.uniform(-HOUR, HOUR)
                wait_until(
                    lambda b=before: all(
                        len(writer.acknowledged) > n + 2
                        for writer, n in zip(writers, b, strict=True)
                    )
                )
        found = times(servers[0].url)
        assert found == sorted(found)
        assert len(found) == sum(len(writer.acknowledged) for writer in writers)
        assert_each_once(servers[1].url, writers)
    finally:
        for server in servers:
            server.__exit__()
    assert opened(Clock()).store.check().faults == ()


def put(components, *resources):
    def decide(tx):
        for resource in resources:
            key = ResourceKey(resource["resourceType"], resource["id"])
            tx.put(*next_version(tx.read(key), key, resource, tx.now))

    asyncio.run(components.store.commit(decide))


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_lease_has_one_holder_on_either_side_of_a_jump(opened, jump):
    clock = Clock()
    components = opened(clock)
    put(components, {"resourceType": "Patient", "id": "p"})
    outbox = components.store.outbox
    outbox.fan_out(lambda _: (Routed("sink", "all"),), 10)
    (claimed,) = outbox.claim("sink", "first", 60, 10)
    clock.wrong_by = jump
    taken_over = outbox.claim("sink", "second", 60, 10)
    # Forward the lease is over, and then the first holder has nothing to say any more.
    assert len(taken_over) == (1 if jump > 0 else 0)
    outbox.acknowledge([claimed], "first", "receipt of the first")
    holder = "second" if taken_over else "first"
    outbox.acknowledge(taken_over, "second", "receipt of the second")
    delivery, events = outbox.show(claimed.delivery_id)
    assert delivery.state is DeliveryState.ACCEPTED
    assert delivery.receipt == f"receipt of the {holder}"
    assert [event.state for event in events].count(DeliveryState.ACCEPTED) == 1
    assert components.store.check().faults == ()


def reading(number):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": f"r{number}"}],
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": f"2024-05-{1 + number % 28:02d}T08:00:00+03:00",
    }


@pytest.fixture
def registry(tmp_path):
    with running_registry(tmp_path) as url:
        yield url


def test_deliveries_are_complete_and_single_when_the_clock_is_right_again(
    monkeypatch, tmp_path, registry
):
    clock = Clock()
    monkeypatch.setattr(app, "now", clock)
    adapters = {"national-registry": {"url": f"{registry}/fhir", "batch_size": 3}}
    settings = Settings(
        store=f"sqlite:///{tmp_path}/fhir.db", adapters=adapters, allow_private_endpoints=True
    )
    components = app.open_components(settings)
    put(
        components,
        {
            "resourceType": "Patient",
            "id": "p",
            "identifier": [{"system": SNILS_SYSTEM, "value": "1"}],
        },
    )
    outbox = components.store.outbox
    workers = [Worker(outbox, components.sinks(), pace=PACE) for _ in range(2)]
    jumping = threading.Event()

    def jump():
        chance = random.Random(5)
        while not jumping.wait(0.05):
            clock.wrong_by = chance.uniform(-HOUR, HOUR)

    thread = threading.Thread(target=jump)
    thread.start()
    try:
        for worker in workers:
            worker.start()
        for number in range(JUMPS):
            put(components, *(reading(5 * number + n) for n in range(5)))
    finally:
        jumping.set()
        thread.join()
    # Nothing is due later than this, and no lease ends later.
    clock.wrong_by = 2 * HOUR
    wait_until(
        lambda: outbox.counts() == {("national-registry", DeliveryState.ACCEPTED): 5 * JUMPS}
    )
    for worker in workers:
        worker.stop(5)
    counts = requests.get(f"{registry}/counts", timeout=5).json()
    assert counts["duplicates"] == 0
    assert counts["resources"]["Observation"] == 5 * JUMPS
    assert components.store.check().faults == ()
    asyncio.run(components.store.close())
