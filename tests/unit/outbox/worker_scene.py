"""A worker's surroundings: a real store, and a receiver that keeps what it got."""

import asyncio
import threading
import time
from datetime import UTC, datetime

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import deletion, next_version
from fhir_server.outbox.backoff import Backoff
from fhir_server.outbox.fan_out import route_to
from fhir_server.outbox.sink_loop import Pace, SinkLoop
from fhir_server.store.open import open_store
from fhir_server.store.protocol import DeliveryState

QUICK = Pace(poll=0.05, lease=20.0, delivery=Backoff(0.01, 0.05), receiver=Backoff(0.01, 0.05))


class Receiver:
    """A sink that keeps what it got; `refuse` may raise for a batch."""

    def __init__(self, name="receiver", batch_size=10, refuse=lambda batch: None):
        self.name = name
        self.batch_size = batch_size
        self.refuse = refuse
        self.got = []
        self.keys = []
        self.closed = threading.Event()

    def group(self, version):
        if version.key.resource_type != "Basic":
            return None
        if version.key.resource_id.startswith("odd"):
            raise TypeError("a resource that the sink does not understand")
        return "all"

    def deliver(self, versions, idempotency_key):
        batch = [(version.key.resource_id, version.version_id) for version in versions]
        self.keys.append(idempotency_key)
        self.refuse(batch)
        self.got += batch
        return f"receipt of {len(batch)}"

    def close(self):
        self.closed.set()


class Scene:
    def __init__(self, path):
        self.store = open_store(
            f"sqlite:///{path}/fhir.db",
            lambda resource: IndexEntries(),
            SearchParameters(()),
            lambda: datetime.now(UTC),  # noqa: TID251
        )
        self.outbox = self.store.outbox

    def put(self, *ids, resource_type="Basic"):
        def decide(tx):
            for resource_id in ids:
                key = ResourceKey(resource_type, resource_id)
                body = {"resourceType": resource_type, "code": {"text": "x"}}
                tx.put(*next_version(tx.read(key), key, body, tx.now))

        asyncio.run(self.store.commit(decide))

    def delete(self, resource_id):
        def decide(tx):
            tx.put(deletion(tx.read(ResourceKey("Basic", resource_id)), tx.now), None)

        asyncio.run(self.store.commit(decide))

    def fan_out(self, *sinks):
        while self.outbox.fan_out(route_to(sinks), 100):
            pass

    def loop(self, sink, pace=QUICK, stopping=None):
        return SinkLoop(self.outbox, sink, "me", pace, lambda: 0.5, stopping or threading.Event())

    def states(self, sink="receiver"):
        """The state of each delivery by resource and version."""
        found = self.outbox.list(sink, tuple(DeliveryState), 1_000, 0)
        return {(each.key.resource_id, each.version_id): each.state.value for each in found}

    def only(self):
        (delivery,) = self.outbox.list(None, tuple(DeliveryState), 10, 0)
        return delivery


def drain(loop, scene, seconds=10.0):
    """Step until nothing is left to be sent."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        loop.step()
        if not {"queued", "sent"} & set(scene.states().values()):
            return
        time.sleep(0.005)
    raise AssertionError(f"not drained: {scene.states()}")


def wait_until(holds, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
