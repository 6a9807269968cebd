"""What waits at a receiver holds up nothing else, and sinks are looked after between deliveries."""

from threading import Event

from fhir_server.errors import DeliveryDeferred, DeliveryPending
from fhir_server.outbox.sink_loop import Pace, SinkLoop
from fhir_server.store.protocol import DeliveryState, Routed


class Sink:
    name = "registry"
    batch_size = 10

    def __init__(self, *raised):
        self.raised = list(raised)
        self.attended = 0

    def group(self, version):
        return str(version.key)

    def deliver(self, versions, idempotency_key):
        if self.raised:
            raise self.raised.pop(0)
        return "receipt"

    def attend(self):
        self.attended += 1

    def close(self):
        pass


def loop(driver, sink):
    for number in range(2):
        driver.write({"resourceType": "Patient", "id": f"p{number}"})
    driver.outbox.fan_out(lambda v: (Routed(sink.name, sink.group(v)),), 10)
    return SinkLoop(driver.outbox, sink, "worker", Pace(), lambda: 1.0, Event())


def test_a_pending_delivery_is_asked_for_again_and_the_receiver_is_not_left_alone(driver):
    steps = loop(driver, Sink(DeliveryPending("at work", 30.0)))
    assert steps.step() == 0.0
    assert steps.step() == 0.0
    counts = dict.fromkeys(driver.outbox.counts(), 1)
    assert set(counts) == {("registry", DeliveryState.QUEUED), ("registry", DeliveryState.ACCEPTED)}
    assert steps.step() is None
    driver.clock.advance(32)
    assert steps.step() == 0.0
    assert driver.outbox.counts() == {("registry", DeliveryState.ACCEPTED): 2}


def test_a_failure_leaves_the_receiver_alone(driver):
    assert loop(driver, Sink(DeliveryDeferred("away"))).step() > 0.0


def test_a_sink_is_looked_after_whether_or_not_there_is_something_to_deliver(driver):
    sink = Sink()
    steps = loop(driver, sink)
    while steps.step() is not None:
        pass
    assert sink.attended == 3
