"""Receipts: every end of a delivery is in its chain, and the chain shows what was changed."""

import threading
from dataclasses import dataclass

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.receipt import check_chain
from fhir_server.outbox.fan_out import route_to
from fhir_server.outbox.ledger_check import check_ledger
from fhir_server.store.protocol import DeliveryState, Routed

State = DeliveryState


def patient(resource_id="p1", **elements):
    return {"resourceType": "Patient", "id": resource_id, **elements}


def observation(resource_id, patient_id):
    return {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient_id}"},
    }


@dataclass
class Everything:
    """A sink that wants each version, each alone."""

    name: str = "insurer"
    batch_size: int = 10

    def group(self, version):
        return str(version.key)


def fan_out(driver, *names):
    route = route_to([Everything(name) for name in names or ("insurer",)], read=driver.outbox.read)
    while driver.outbox.fan_out(route, 100):
        pass


def claim(driver, sink="insurer", owner="w"):
    return driver.outbox.claim(sink, owner, 30.0, 10)


def settle(driver, how, detail="because", sink="insurer"):
    claimed = claim(driver, sink)
    getattr(driver.outbox, how)(claimed, "w", detail)
    return [each.delivery_id for each in claimed]


def chain(driver, sink="insurer"):
    return driver.outbox.receipts(sink, 0, 1000)


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ("acknowledge", State.ACCEPTED),
        ("park", State.PARKED),
        ("reject", State.REJECTED),
        ("withhold", State.WITHHELD),
    ],
)
def test_every_end_has_a_receipt_that_names_the_version(driver, how, state):
    driver.write(patient())
    fan_out(driver)
    (number,) = settle(driver, how, "said")
    (receipt,) = chain(driver)
    assert (receipt.number, receipt.state, receipt.detail) == (1, state.value, "said")
    assert receipt.lines == ((number, 1, "Patient/p1/_history/1"),)
    delivery, _ = driver.outbox.show(number)
    assert delivery.state is state
    assert (delivery.receipt or delivery.reason) == "said"
    assert driver.outbox.receipt_numbers([number]) == {number: 1}
    assert driver.outbox.counts() == {("insurer", state): 1}


def test_a_deferral_is_no_end(driver):
    driver.write(patient())
    fan_out(driver)
    driver.outbox.defer(claim(driver), "w", 1, "away")
    assert chain(driver) == ()
    assert driver.outbox.receipt_heads() == {}


def test_a_worker_that_lost_its_lease_writes_no_receipt(driver):
    driver.write(patient())
    fan_out(driver)
    slow = claim(driver, owner="slow")
    driver.clock.advance(31)
    claim(driver, owner="fast")
    driver.outbox.acknowledge(slow, "slow", "late")
    assert chain(driver) == ()


def test_receipts_of_a_sink_follow_one_another(driver):
    driver.write(patient("a"), patient("b"), patient("c"))
    fan_out(driver, "insurer", "hospital")
    for how in ("acknowledge", "withhold", "reject"):
        settle(driver, how)
    settle(driver, "acknowledge", sink="hospital")
    receipts = chain(driver)
    assert [receipt.number for receipt in receipts] == [1, 2, 3]
    assert list(check_chain(receipts, 0, "")) == []
    assert list(check_chain(receipts[1:], 1, receipts[0].digest)) == []
    head = driver.outbox.receipt_heads()["insurer"]
    assert (head.number, head.digest) == (3, receipts[-1].digest)
    assert [r.number for r in chain(driver, "hospital")] == [1]
    assert driver.outbox.receipts("insurer", 1, 1) == receipts[1:2]


def test_a_change_and_a_gap_show(driver):
    driver.write(patient("a"), patient("b"), patient("c"))
    fan_out(driver)
    for _ in range(3):
        settle(driver, "acknowledge", "ok")
    first, second, third = chain(driver)
    assert list(check_chain((first, second._replace(detail="else"), third), 0, "")) == [
        "insurer: receipt 2 is not what was written"
    ]
    assert list(check_chain((first, third), 0, "")) == ["insurer: receipts 2 to 2 are missing"]


def test_what_stopped_can_be_retried_and_the_chain_tells(driver):
    driver.write(*(patient(name) for name in "abc"))
    fan_out(driver)
    stopped = [settle(driver, how)[0] for how in ("park", "reject", "withhold")]
    assert claim(driver) == ()
    assert driver.outbox.retry(stopped) == 3
    assert chain(driver)[-1].state == "queued"
    assert len(chain(driver)[-1].lines) == 3
    settle(driver, "acknowledge")
    assert list(check_chain(chain(driver), 0, "")) == []


def test_an_accepted_one_is_registered_once_and_others_are_not(driver):
    driver.write(patient("a"), patient("b"))
    fan_out(driver)
    (accepted,) = settle(driver, "acknowledge")
    (waiting,) = (each.delivery_id for each in claim(driver))
    conclude = driver.outbox.conclude
    assert conclude([accepted, waiting], State.REGISTERED, "no. 17") == 1
    assert conclude([accepted], State.REJECTED, "too late") == 0
    delivery, history = driver.outbox.show(accepted)
    assert (delivery.state, delivery.receipt) == (State.REGISTERED, "no. 17")
    assert [event.state for event in history][-2:] == [State.ACCEPTED, State.REGISTERED]
    assert [receipt.state for receipt in chain(driver)] == ["accepted", "registered"]
    assert driver.outbox.counts() == {
        ("insurer", State.REGISTERED): 1,
        ("insurer", State.SENT): 1,
    }
    assert [d.delivery_id for d in driver.outbox.list(None, (State.REGISTERED,), 9, 0)] == [
        accepted
    ]


def test_a_refusal_after_acceptance_can_be_retried(driver):
    driver.write(patient("a"))
    fan_out(driver)
    (number,) = settle(driver, "acknowledge")
    assert driver.outbox.conclude([number], State.REJECTED, "schema") == 1
    assert driver.outbox.counts() == {("insurer", State.REJECTED): 1}
    assert driver.outbox.retry([number]) == 1
    (again,) = claim(driver)
    assert again.delivery_id == number


def test_the_ledger_is_asked_by_patient_and_time(driver):
    driver.write(patient("p1"), observation("o1", "p1"), observation("o2", "p2"))
    fan_out(driver)
    noon = driver.clock()
    driver.clock.advance(60)
    driver.write(observation("o3", "p1"))
    driver.delete(ResourceKey("Observation", "o1"))
    fan_out(driver)

    def found(**asked):
        deliveries = driver.outbox.list(None, (), 100, 0, **asked)
        return [f"{d.key.resource_id}/{d.version_id}" for d in deliveries]

    assert found(patient=ResourceKey("Patient", "p1")) == ["p1/1", "o1/1", "o3/1", "o1/2"]
    assert found(patient=ResourceKey("Patient", "nobody")) == []
    driver.clock.advance(-30)
    assert found(since=driver.clock()) == ["o3/1", "o1/2"]
    assert found(since=noon, patient=ResourceKey("Patient", "p2")) == ["o2/1"]


def test_a_patient_that_is_not_here_yet_does_no_harm(driver):
    driver.write({**observation("o1", "p1"), "subject": {"reference": "Patient/later"}})
    driver.outbox.fan_out(lambda v: (Routed("insurer", "g", "Patient/never-heard-of"),), 10)
    assert len(claim(driver)) == 1


def test_audits_go_forward_only(driver):
    driver.write(patient("a"), patient("b"))
    fan_out(driver)
    settle(driver, "acknowledge")
    settle(driver, "acknowledge")
    driver.outbox.audited("insurer", 2)
    driver.outbox.audited("insurer", 1)
    assert driver.outbox.receipt_heads()["insurer"].audited == 2


def test_workers_of_several_processes_write_one_chain(driver):
    driver.write(*(patient(f"p{n}") for n in range(24)))
    fan_out(driver)
    outboxes = (driver.outbox, driver.open_another().outbox)

    def work(number):
        outbox, owner = outboxes[number % 2], f"w{number}"
        while claimed := outbox.claim("insurer", owner, 30.0, 1):
            outbox.acknowledge(claimed, owner, "ok")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receipts = chain(driver)
    assert [receipt.number for receipt in receipts] == list(range(1, 25))
    assert list(check_chain(receipts, 0, "")) == []
    assert driver.store.check().faults == ()


def test_a_thread_that_may_wait_searches(driver):
    driver.write(patient("a", active=True), patient("b", active=False))
    page = driver.outbox.search(driver.query("Patient?active=true"))
    assert [version.key.resource_id for version in page.versions] == ["a"]


def test_an_honest_ledger_agrees_with_its_receipts(driver):
    driver.write(*(patient(name) for name in "abcdefg"))
    fan_out(driver)
    first = [settle(driver, how)[0] for how in ("acknowledge", "park", "reject", "withhold")]
    driver.outbox.conclude(first[:1], State.REGISTERED, "no. 17")
    driver.outbox.retry(first[1:])
    settle(driver, "acknowledge")
    claim(driver)
    found = check_ledger(driver.outbox)
    assert (found.deliveries, found.faults) == (7, ())
    head = found.heads["insurer"]
    anchor = {"insurer": (head.number, head.digest)}
    settle(driver, "acknowledge")
    assert check_ledger(driver.outbox, "insurer", anchor).faults == ()
    assert check_ledger(driver.outbox, None, {"insurer": (1, head.digest)}).faults == (
        "insurer: the chain does not pass through the receipt that was told before",
    )
