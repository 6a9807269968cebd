"""A websocket's client that is slow, silent or gone, over a real store."""

import asyncio
import json
import time

import pytest

from fhir_server.app import now, open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.core.websocket_binding import seal
from fhir_server.outbox import sockets
from fhir_server.outbox.socket_binding import SocketSurroundings
from fhir_server.outbox.sockets import REFUSED, TRY_AGAIN, Sockets
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState, Routed

SUBSCRIPTION = {
    "resourceType": "Subscription",
    "id": "s",
    "status": "active",
    "reason": "test",
    "criteria": "Patient?",
    "channel": {"type": "websocket"},
}


class Client:
    """A socket of which the test says what the client does."""

    def __init__(self, *said, is_deaf=False):
        self.said = list(said)
        self.heard = []
        self.is_deaf = is_deaf
        self.closed = None
        self.gone = asyncio.Event()

    async def receive(self):
        if self.said:
            return self.said.pop(0)
        await self.gone.wait()
        return None

    async def send(self, text):
        if self.is_deaf and not text.startswith("bound"):
            await asyncio.Event().wait()
        self.heard.append(text)

    async def close(self, code):
        self.closed = code


@pytest.fixture
def components(tmp_path):
    opened = open_components(Settings(store=f"sqlite:///{tmp_path}/fhir.db"))
    yield opened
    asyncio.run(opened.store.close())


def surroundings(components):
    return SocketSurroundings(
        components.store.outbox,
        components.subscription_reader.read,
        now,
        "",
        components.definitions.element_types,
        "sockets/test",
    )


def put(components, *resources):
    def decide(tx):
        for each in resources:
            key = ResourceKey(each["resourceType"], each["id"])
            tx.put(*next_version(tx.read(key), key, each, tx.now))

    components.store.outbox.commit(decide)


def events(components, *ids):
    put(components, *({"resourceType": "Patient", "id": each} for each in ids))
    route = {"Patient": (Routed("Subscription/s", "events"),)}
    while components.store.outbox.fan_out(lambda v: route.get(v.key.resource_type, ()), 100):
        pass


def states(components):
    found = components.store.outbox.list("Subscription/s", tuple(DeliveryState), 100, 0)
    return [delivery.state.value for delivery in found]


def serve(components, client, patience=5.0, until=lambda: False, unbound=None):
    async def run():
        served = Sockets(surroundings(components), b"k", poll=0.05, patience=patience)
        async with served.following():
            task = asyncio.create_task(served.serve(client))
            deadline = time.monotonic() + 10
            while not task.done() and not until():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            client.gone.set()
            await task

    asyncio.run(run())


def test_a_client_that_reads_nothing_is_cut_off_and_loses_nothing(components):
    put(components, SUBSCRIPTION)
    events(components, "a", "b")
    deaf = Client("bind s", is_deaf=True)
    serve(components, deaf, patience=0.2)
    assert deaf.closed == TRY_AGAIN
    assert states(components) == ["queued", "queued"]
    well = Client("bind s")
    serve(components, well, until=lambda: states(components) == ["accepted", "accepted"])
    assert well.heard == ["bound s", "ping s"]


def test_a_client_that_binds_nothing_is_sent_away(components, monkeypatch):
    monkeypatch.setattr(sockets, "_UNBOUND_SECONDS", 0.2)
    silent = Client()
    serve(components, silent)
    assert silent.closed == REFUSED


def test_what_another_socket_was_told_is_accepted_once(components):
    put(components, SUBSCRIPTION)
    first, second = Client("bind s"), Client("bind s", "bind s")

    async def run():
        served = Sockets(surroundings(components), b"k", poll=0.05)
        async with served.following():
            tasks = [asyncio.create_task(served.serve(each)) for each in (first, second)]
            await asyncio.sleep(0.3)
            await asyncio.to_thread(events, components, "a", "b", "c")
            while states(components) != ["accepted"] * 3 or len(second.heard) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            for each in (first, second):
                each.gone.set()
            await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(run(), 10))
    assert first.heard[0] == second.heard[0] == "bound s"
    assert set(first.heard[1:]) == set(second.heard[1:]) == {"ping s"}


def test_a_notification_says_what_it_is_for_whoever_asks_in_xml(components):
    extension = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
    content = {"url": f"{extension}payload-content", "valueCode": "full-resource"}
    channel = {
        "type": "websocket",
        "payload": "application/fhir+xml",
        "_payload": {"extension": [content]},
    }
    put(components, {**SUBSCRIPTION, "channel": channel})
    events(components, "a")
    token = seal(["s"], now().replace(year=2999), b"k")
    client = Client(json.dumps({"type": "bind-with-token", "payload": {"token": token}}))
    serve(components, client, until=lambda: len(client.heard) == 2)
    assert client.heard[1].startswith("<?xml")
    assert '<Patient xmlns="http://hl7.org/fhir"' in client.heard[1] or (
        "<Patient>" in client.heard[1]
    )
