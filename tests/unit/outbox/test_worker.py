"""The worker over a real store: who gets what, when, and what stops whom."""

import asyncio
import threading
import time
from datetime import UTC, datetime

import pytest

from fhir_server.errors import DeliveryDeferred, DeliveryRejected, DeliveryWithheld
from fhir_server.outbox.backoff import Backoff
from fhir_server.outbox.fan_out import route_to
from fhir_server.outbox.worker import Worker
from fhir_server.store.protocol import DeliveryState
from tests.unit.outbox.worker_scene import QUICK, Receiver, Scene, drain, wait_until


@pytest.fixture
def scene(tmp_path):
    opened = Scene(tmp_path)
    yield opened
    asyncio.run(opened.store.close())


def refusing(error, *bad):
    def refuse(batch):
        if any(resource_id in bad for resource_id, _ in batch):
            raise error

    return refuse


def test_what_was_committed_is_delivered_once_and_acknowledged(scene):
    receiver = Receiver()
    scene.put("a", "b")
    scene.fan_out(receiver)
    assert scene.loop(receiver).step() == 0.0
    assert scene.loop(receiver).step() is None
    assert receiver.got == [("a", 1), ("b", 1)]
    assert set(scene.states().values()) == {"accepted"}
    delivery, events = scene.outbox.show(
        scene.outbox.list(None, (DeliveryState.ACCEPTED,), 1, 0)[0].delivery_id
    )
    assert delivery.receipt == "receipt of 2"
    assert events


def test_what_a_sink_does_not_want_makes_no_delivery(scene):
    receiver = Receiver()
    scene.put("p", resource_type="Patient")
    scene.fan_out(receiver)
    assert scene.states() == {}


def test_of_a_batch_only_what_policy_forbids_is_withheld(scene):
    class Choosy(Receiver):
        def deliver(self, versions, idempotency_key):
            forbidden = {v.sequence for v in versions if v.key.resource_id in ("r1", "r2")}
            if forbidden:
                raise DeliveryWithheld("no consent", forbidden)
            return super().deliver(versions, idempotency_key)

    receiver = Choosy()
    scene.put("r0", "r1", "r2", "r3")
    scene.fan_out(receiver)
    scene.loop(receiver).step()
    states = scene.states()
    assert {key[0] for key, state in states.items() if state == "withheld"} == {"r1", "r2"}
    assert receiver.got == [("r0", 1), ("r3", 1)]
    (both,) = scene.outbox.receipts("receiver", 0, 1)
    assert (both.detail, len(both.lines)) == ("no consent", 2)


def test_of_a_rejected_batch_only_what_is_to_blame_is_rejected(scene):
    ids = [f"r{number}" for number in range(9)]
    receiver = Receiver(refuse=refusing(DeliveryRejected("422"), "r3", "r7"))
    scene.put(*ids)
    scene.fan_out(receiver)
    scene.loop(receiver).step()
    states = scene.states()
    assert {key[0] for key, state in states.items() if state == "rejected"} == {"r3", "r7"}
    assert sorted(resource_id for resource_id, _ in receiver.got) == sorted(set(ids) - {"r3", "r7"})
    assert len(set(receiver.keys)) == len(receiver.keys)


def test_an_adapters_fault_holds_up_only_what_it_chokes_on(scene):
    receiver = Receiver(refuse=refusing(KeyError("Ivanova"), "r1"))
    scene.put("r0", "r1", "r2")
    scene.fan_out(receiver)
    scene.loop(receiver).step()
    assert scene.states() == {("r0", 1): "accepted", ("r1", 1): "queued", ("r2", 1): "accepted"}
    held = next(each for each in scene.outbox.list(None, (DeliveryState.QUEUED,), 9, 0))
    assert "KeyError" in held.reason
    assert "Ivanova" not in held.reason


def test_a_deferral_waits_and_says_how_long_to_leave_the_receiver_alone(scene):
    receiver = Receiver(refuse=refusing(DeliveryDeferred("429", retry_after=30.0), "a"))
    scene.put("a")
    scene.fan_out(receiver)
    loop = scene.loop(receiver)
    assert loop.step() >= 30.0
    delivery = scene.only()
    assert delivery.state is DeliveryState.QUEUED
    assert delivery.reason == "429"
    assert (delivery.due - delivery.changed_at).total_seconds() >= 29.9
    assert loop.step() is None


def test_the_receiver_is_left_alone_longer_with_each_failure_until_it_works(scene):
    receiver = Receiver(refuse=refusing(DeliveryDeferred("500"), "a"))
    scene.put("a")
    scene.fan_out(receiver)
    pace = QUICK._replace(delivery=Backoff(0.0, 0.0), receiver=Backoff(1.0, 60.0))
    loop = scene.loop(receiver, pace)
    assert [loop.step() for _ in range(3)] == [0.5, 1.0, 2.0]
    receiver.refuse = lambda batch: None
    assert loop.step() == 0.0


def test_a_batch_that_the_receiver_always_stumbles_over_holds_up_only_what_is_to_blame(scene):
    receiver = Receiver(refuse=refusing(DeliveryDeferred("500"), "r1"))
    ids = [f"r{number}" for number in range(6)]
    scene.put(*ids)
    scene.fan_out(receiver)
    loop = scene.loop(receiver, QUICK._replace(suspect_after=2))
    wait_until(lambda: (loop.step(), len(receiver.got) == 5)[1])
    assert {key[0] for key, state in scene.states().items() if state != "accepted"} == {"r1"}


def test_what_was_tried_too_often_is_parked_and_can_be_retried(scene):
    receiver = Receiver(refuse=refusing(DeliveryDeferred("500"), "a"))
    scene.put("a")
    scene.fan_out(receiver)
    drain(scene.loop(receiver, QUICK._replace(max_attempts=3)), scene)
    assert scene.states() == {("a", 1): "parked"}
    assert "too often" in scene.only().reason
    receiver.refuse = lambda batch: None
    assert scene.outbox.retry([scene.only().delivery_id]) == 1
    drain(scene.loop(receiver), scene)
    assert scene.states() == {("a", 1): "accepted"}


def test_versions_of_one_resource_go_in_order_though_the_first_is_held_up(scene):
    failures = iter([DeliveryDeferred("500")] * 3)

    def refuse(batch):
        if error := next(failures, None):
            raise error

    receiver = Receiver(refuse=refuse)
    scene.put("a")
    scene.put("a")
    scene.delete("a")
    scene.fan_out(receiver)
    drain(scene.loop(receiver), scene)
    assert receiver.got == [("a", 1), ("a", 2), ("a", 3)]


def test_nothing_is_begun_in_the_second_half_of_a_lease(scene):
    begun = []

    def refuse(batch):
        begun.append(batch)
        time.sleep(0.3)
        raise DeliveryRejected("422")

    receiver = Receiver(refuse=refuse)
    scene.put(*(f"r{number}" for number in range(8)))
    scene.fan_out(receiver)
    scene.loop(receiver, QUICK._replace(lease=0.5)).step()
    assert len(begun) == 1
    assert set(scene.states().values()) == {"queued"}


def test_a_version_that_a_sink_cannot_sort_is_delivered_by_itself(scene):
    receiver = Receiver()
    scene.put("a", "odd1", "b")
    scene.fan_out(receiver)
    groups = {
        e.key.resource_id: e.group for e in scene.outbox.list(None, tuple(DeliveryState), 9, 0)
    }
    assert groups == {"a": "all", "b": "all", "odd1": "unsorted/Basic/odd1"}


def test_two_sinks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="same name"):
        route_to([Receiver(), Receiver()])


def test_a_receiver_that_hangs_delays_nobody_else(scene):
    release = threading.Event()
    dead = Receiver("dead", refuse=lambda batch: release.wait(20))
    alive = Receiver("alive")
    worker = Worker(scene.outbox, [dead, alive], pace=QUICK)
    worker.start()
    try:
        scene.put("a", "b")
        worker.nudge()
        wait_until(lambda: len(alive.got) == 2)
        assert dead.got == []
    finally:
        release.set()
        assert worker.stop()


def test_a_nudge_is_quicker_than_the_poll(scene):
    receiver = Receiver()
    worker = Worker(scene.outbox, [receiver], pace=QUICK._replace(poll=60.0))
    worker.start()
    try:
        time.sleep(0.3)
        scene.put("a")
        worker.nudge()
        wait_until(lambda: receiver.got == [("a", 1)], 5.0)
    finally:
        assert worker.stop()


def test_a_stop_lets_what_is_under_way_finish_and_begins_nothing_new(scene):
    sending = threading.Event()

    def slow(batch):
        sending.set()
        time.sleep(0.4)

    receiver = Receiver(batch_size=1, refuse=slow)
    scene.put("a", "b", "c")
    worker = Worker(scene.outbox, [receiver], pace=QUICK)
    worker.start()
    assert sending.wait(5)
    assert worker.stop()
    assert scene.states()[("a", 1)] == "accepted"
    assert set(scene.states().values()) == {"accepted", "queued"}


def test_what_outlasts_the_grace_is_cut_and_free_for_the_next_worker(scene):
    sending = threading.Event()
    receiver = Receiver()

    def hang(batch):
        sending.set()
        receiver.closed.wait(20)
        raise DeliveryDeferred("the worker is stopping")

    receiver.refuse = hang
    scene.put("a")
    worker = Worker(scene.outbox, [receiver], pace=QUICK)
    worker.start()
    assert sending.wait(5)
    assert worker.stop(grace=0.2)
    assert scene.states() == {("a", 1): "queued"}
    receiver.refuse = lambda batch: None
    drain(scene.loop(receiver), scene)
    assert receiver.got == [("a", 1)]


def test_without_sinks_nothing_is_looked_at_so_a_later_one_gets_all(scene):
    scene.put("a")
    worker = Worker(scene.outbox, [], pace=QUICK)
    worker.start()
    assert worker.stop()
    receiver = Receiver()
    scene.fan_out(receiver)
    assert scene.states() == {("a", 1): "queued"}


def test_many_workers_share_the_work_without_sending_anything_twice(scene):
    receivers = [Receiver(batch_size=3) for _ in range(4)]
    workers = [Worker(scene.outbox, [receiver], pace=QUICK) for receiver in receivers]
    for worker in workers:
        worker.start()
    try:
        for start in range(0, 60, 6):
            scene.put(*(f"r{number}" for number in range(start, start + 6)))
        wait_until(lambda: list(scene.states().values()).count("accepted") == 60)
    finally:
        for worker in workers:
            assert worker.stop()
    got = [each for receiver in receivers for each in receiver.got]
    assert len(got) == len(set(got)) == 60


def test_workers_that_know_different_receivers_pass_over_nothing_of_each_others(scene):
    here, there = Receiver("here"), Receiver("there")
    scene.put("before")
    workers = [Worker(scene.outbox, [each], pace=QUICK) for each in (here, there)]
    for worker in workers:
        worker.start()
    try:
        scene.put("a", "b")
        wait_until(lambda: len(here.got) == len(there.got) == 3)
    finally:
        for worker in workers:
            assert worker.stop()


def test_what_takes_longer_than_a_lease_is_not_sent_by_another(scene):
    def slow(batch):
        time.sleep(1.5)

    receivers = [Receiver(refuse=slow), Receiver()]
    scene.put("a")
    pace = QUICK._replace(lease=0.6)
    workers = [Worker(scene.outbox, [each], pace=pace) for each in receivers]
    workers[0].start()
    time.sleep(0.3)
    workers[1].start()
    try:
        wait_until(lambda: scene.states() == {("a", 1): "accepted"})
    finally:
        for worker in workers:
            assert worker.stop()
    assert (receivers[0].got, receivers[1].got) == ([("a", 1)], [])


def test_a_receiver_is_told_nothing_from_before_its_begin(scene):
    scene.put("before")
    time.sleep(0.01)
    begin = datetime.now(UTC)  # noqa: TID251
    time.sleep(0.01)
    scene.put("after")
    late, whole = Receiver("late"), Receiver("whole")
    worker = Worker(scene.outbox, [late, whole], pace=QUICK, begins={"late": begin})
    worker.start()
    try:
        wait_until(lambda: late.got and len(whole.got) == 2)
    finally:
        assert worker.stop()
    assert late.got == [("after", 1)]
    assert ("before", 1) not in scene.states("late")
