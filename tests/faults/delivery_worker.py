"""A delivery worker with little patience, for tests that starve and kill it.

    python tests/faults/delivery_worker.py

Settings come from the environment, as they do for `fhir-server deliver`.
"""

import asyncio
import signal
from threading import Event

from fhir_server.app import open_components
from fhir_server.outbox.backoff import Backoff
from fhir_server.outbox.delivery_audit import DeliveryAudit
from fhir_server.outbox.sink_loop import Pace
from fhir_server.outbox.worker import Worker
from fhir_server.settings import Settings

PACE = Pace(poll=0.05, lease=4.0, delivery=Backoff(0.05, 0.5), receiver=Backoff(0.05, 0.3))


def main() -> None:
    stopping = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    components = open_components(Settings())
    outbox, sinks = components.store.outbox, components.sinks()
    audit = DeliveryAudit(outbox, [sink.name for sink in sinks])
    worker = Worker(outbox, sinks, audit=audit, pace=PACE)
    worker.start()
    stopping.wait()
    worker.stop(grace=0.5)
    asyncio.run(components.store.close())


if __name__ == "__main__":
    main()
