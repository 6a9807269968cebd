"""Each reading is at the registry exactly once, whatever happens on the way.

Real processes: the stand-in registry and the delivery worker, over real HTTP and one
store file. `FHIR_SERVER_TEST_SCALE` multiplies the number of readings.
"""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM as READING_SYSTEM
from fhir_server.core.version import deletion, next_version
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState
from tests import ended

REPOSITORY = Path(__file__).resolve().parents[2]
SCALE = int(os.environ.get("FHIR_SERVER_TEST_SCALE", "1"))
READINGS = 40 * SCALE
PATIENTS = 4
WAITING = (DeliveryState.QUEUED, DeliveryState.SENT)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class Scene:
    """A store in this process; registry and workers in their own."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.store_url = f"sqlite:///{folder}/fhir.db"
        self.components = open_components(Settings(store=self.store_url))
        self.outbox = self.components.store.outbox
        self.children = []
        self.expected = {}
        self.versions = 0
        self.enrolled = 0

    @property
    def registry_url(self):
        return f"http://127.0.0.1:{self.port}"

    def start_registry(self, fault="none"):
        child = self._start(
            ["-m", "adapters.national_registry.stand_in", "--fault", fault],
            ["--port", str(self.port), "--journal", str(self.folder / "registry.db")],
        )
        wait_until(lambda: self._is_listening(child), 20)
        return child

    def set_fault(self, **fault):
        requests.post(f"{self.registry_url}/faults", json=fault, timeout=5).raise_for_status()

    def start_worker(self, command=("tests/faults/delivery_worker.py",)):
        section = {
            "url": f"{self.registry_url}/fhir",
            "batch_size": 7,
            "connect_seconds": 1.0,
            "read_seconds": 0.7,
            "total_seconds": 1.5,
        }
        return self._start(
            list(command),
            FHIR_SERVER_STORE=self.store_url,
            FHIR_SERVER_ADAPTERS=json.dumps({"national-registry": section}),
            FHIR_SERVER_ALLOW_PRIVATE_ENDPOINTS="1",
        )

    def commit(self, decide):
        return asyncio.run(self.components.store.commit(decide))

    def enrol(self):
        """Patients for the readings that come now."""
        first = self.enrolled
        self.enrolled += PATIENTS

        def decide(tx):
            for number in range(first, self.enrolled):
                for resource_type in ("Patient", "Device"):
                    key = ResourceKey(resource_type, f"{resource_type[0].lower()}{number}")
                    body = {
                        "resourceType": resource_type,
                        "identifier": [{"system": "urn:kit", "value": f"{number}"}],
                    }
                    tx.put(*next_version(tx.read(key), key, body, tx.now))

        self.commit(decide)

    def add_readings(self, numbers, status="final"):
        """Store the readings; those that are there already become new versions."""

        def decide(tx):
            for number in numbers:
                key = ResourceKey("Observation", f"o{number}")
                tx.put(*next_version(tx.read(key), key, self.reading(number, status), tx.now))

        self.commit(decide)
        self.expected |= {f"r{number}": status for number in numbers}
        self.versions += len(numbers)

    def reading(self, number, status):
        owner = self.enrolled - 1 - number % PATIENTS
        return {
            "resourceType": "Observation",
            "identifier": [{"system": READING_SYSTEM, "value": f"r{number}"}],
            "status": status,
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": f"Patient/p{owner}"},
            "device": {"reference": f"Device/d{owner}"},
            "effectiveDateTime": f"2024-05-{1 + number % 3:02d}T08:00:00+03:00",
            "valueQuantity": {"value": 60 + number % 40, "unit": "/min"},
        }

    def remove(self, number):
        def decide(tx):
            tx.put(deletion(tx.read(ResourceKey("Observation", f"o{number}")), tx.now), None)

        self.commit(decide)
        self.expected[f"r{number}"] = "entered-in-error"
        self.versions += 1

    def is_delivered(self):
        """Whether the outbox has looked at everything and nothing waits."""
        # One that a test killed has a negative code.
        assert not any((child.poll() or 0) > 0 for child in self.children), "a process failed"
        counts = self.outbox.counts()
        return sum(counts.values()) == self.versions and not any(
            counts.get(("national-registry", state)) for state in WAITING
        )

    def attempts(self):
        """How often it was tried to deliver each of what was routed."""
        found = self.outbox.list(None, tuple(DeliveryState), 100_000, 0)
        return [delivery.attempts for delivery in found]

    def repeated(self):
        return sum(attempts > 1 for attempts in self.attempts())

    def check_each_is_there_once(self):
        answer = requests.get(
            f"{self.registry_url}/fhir/Observation", params={"_count": 100_000}, timeout=20
        ).json()
        there = [
            (entry["resource"]["identifier"][0]["value"], entry["resource"]["status"])
            for entry in answer.get("entry", [])
        ]
        assert sorted(there) == sorted(self.expected.items())
        counts = self.registry_counts()
        assert counts["duplicates"] == 0
        assert counts["resources"]["Patient"] == counts["resources"]["Device"] == self.enrolled
        assert set(self.outbox.counts()) == {("national-registry", DeliveryState.ACCEPTED)}

    def registry_counts(self):
        return requests.get(f"{self.registry_url}/counts", timeout=5).json()

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()
        asyncio.run(self.components.store.close())

    def _is_listening(self, child):
        assert child.poll() is None, "the registry ended"
        try:
            return requests.get(f"{self.registry_url}/counts", timeout=1).ok
        except requests.ConnectionError:
            return False

    def _start(self, *arguments, **environment):
        child = subprocess.Popen(
            [sys.executable, *(each for part in arguments for each in part)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        )
        self.children.append(child)
        return child


@pytest.fixture
def scene(tmp_path):
    opened = Scene(tmp_path)
    opened.enrol()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def going(tmp_path_factory):
    """A registry and a worker that many faults come to, one after the other."""
    opened = Scene(tmp_path_factory.mktemp("going"))
    opened.start_registry()
    opened.start_worker()
    yield opened
    opened.close()


def wait_until(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


AFTER_STORING = ["store-then-error", "store-then-cut", "store-then-half-answer", "store-then-hang"]
INSTEAD_OF_STORING = ["error", "rate-limit", "cut", "hang"]


@pytest.mark.parametrize("kind", INSTEAD_OF_STORING + AFTER_STORING)
def test_a_registry_that_fails_has_each_reading_once_in_the_end(going, kind):
    going.enrol()
    repeated = going.repeated()
    not_stored = going.registry_counts()["requests"].get("not stored", 0)
    # A registry that hangs does so for longer than anybody waits.
    going.set_fault(kind=kind, times=4, seconds=1 if kind == "rate-limit" else 30)
    going.add_readings(range(going.versions, going.versions + READINGS))
    wait_until(going.is_delivered)
    going.check_each_is_there_once()
    assert going.repeated() > repeated
    more = 0 if kind in AFTER_STORING else 4
    assert going.registry_counts()["requests"].get("not stored", 0) == not_stored + more


def test_a_registry_that_was_away_gets_everything_when_it_is_back(scene):
    scene.add_readings(range(READINGS))
    scene.start_worker()
    wait_until(lambda: max(scene.attempts(), default=0) >= 3)
    scene.start_registry()
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()


def test_corrections_and_deletions_arrive_in_order_over_a_failing_registry(scene):
    scene.start_registry()
    scene.set_fault(kind="store-then-cut", every=3)
    scene.start_worker()
    scene.add_readings(range(READINGS))
    scene.add_readings(range(0, READINGS, 2), "amended")
    scene.add_readings(range(0, READINGS, 4), "corrected")
    for number in range(0, READINGS, 8):
        scene.remove(number)
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()


def test_a_killed_worker_loses_and_doubles_nothing(scene):
    scene.start_registry()
    scene.set_fault(kind="store-then-cut", every=5)
    scene.add_readings(range(READINGS))
    chance = random.Random(7)
    worker = scene.start_worker()
    for start in range(READINGS, 4 * READINGS, READINGS):
        scene.add_readings(range(start, start + READINGS))
        before = scene.registry_counts()["requests"].get("stored", 0)
        wait_until(lambda n=before: scene.registry_counts()["requests"].get("stored", 0) > n)
        time.sleep(chance.uniform(0, 0.1))
        worker.kill()
        worker.wait()
        worker = scene.start_worker()
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()


def test_a_killed_registry_comes_back_with_what_it_acknowledged(scene):
    registry = scene.start_registry()
    scene.start_worker()
    scene.add_readings(range(READINGS))
    wait_until(lambda: scene.registry_counts()["requests"].get("stored", 0) >= 2)
    registry.kill()
    registry.wait()
    scene.add_readings(range(READINGS, 2 * READINGS))
    scene.start_registry()
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()


def test_an_answer_that_comes_later_is_asked_for_by_whoever_takes_over(scene):
    scene.start_registry()
    scene.set_fault(kind="store-then-later", seconds=1)
    scene.add_readings(range(READINGS))
    worker = scene.start_worker()
    wait_until(lambda: scene.registry_counts()["requests"].get("stored", 0) >= 2)
    worker.kill()
    worker.wait()
    scene.start_worker()
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()
    seen = requests.get(f"{scene.registry_url}/requests", timeout=5).json()
    keys = [each["idempotencyKey"] for each in seen]
    # The kill may have come between the registry's 202 and our note of it: once at most.
    assert len(keys) - len(set(keys)) <= 1


def test_what_the_registry_took_and_lost_is_sent_again(scene):
    scene.start_registry()
    scene.set_fault(kind="store-then-lose", times=3)
    scene.add_readings(range(READINGS))
    scene.start_worker()
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()


def test_a_changed_patient_is_told_without_a_reading(scene):
    scene.start_registry()
    scene.add_readings(range(8))
    scene.start_worker()
    wait_until(scene.is_delivered)

    def decide(tx):
        key = ResourceKey("Patient", "p1")
        body = tx.read(key).resource() | {"gender": "female"}
        tx.put(*next_version(tx.read(key), key, body, tx.now))

    scene.commit(decide)
    scene.versions += 1
    wait_until(scene.is_delivered)
    url = f"{scene.registry_url}/fhir/Patient"
    found = requests.get(url, params={"identifier": "urn:kit|1"}, timeout=5).json()
    assert [each["resource"]["gender"] for each in found["entry"]] == ["female"]
    scene.check_each_is_there_once()


def test_two_workers_on_one_store_deliver_each_reading_once(scene):
    scene.start_registry()
    scene.start_worker()
    scene.start_worker()
    for start in range(0, READINGS, 4):
        scene.add_readings(range(start, start + 4))
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()
    seen = requests.get(f"{scene.registry_url}/requests", timeout=5).json()
    keys = [each["idempotencyKey"] for each in seen]
    assert len(keys) == len(set(keys))


def test_a_stopped_worker_releases_what_hangs(scene):
    scene.start_registry()
    scene.set_fault(kind="hang", seconds=60)
    scene.add_readings(range(5))
    worker = scene.start_worker()
    wait_until(lambda: scene.outbox.counts().get(("national-registry", DeliveryState.SENT)))
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)
    assert set(scene.outbox.counts()) == {("national-registry", DeliveryState.QUEUED)}


def test_what_the_registry_refuses_is_rejected_without_its_words_and_can_be_retried(scene):
    scene.start_registry("reject")
    scene.add_readings(range(6))
    scene.start_worker()
    rejected = ("national-registry", DeliveryState.REJECTED)
    wait_until(lambda: scene.outbox.counts() == {rejected: 6})
    found = scene.outbox.list(None, (DeliveryState.REJECTED,), 10, 0)
    expected = "the registry answered 422 (business-rule at Bundle.entry[0].resource)"
    assert {delivery.reason for delivery in found} == {expected}
    scene.set_fault(kind="none")
    _, listed = cli(scene, "list", "--json")
    assert [json.loads(line)["state"] for line in listed.splitlines()] == ["rejected"] * 6
    number = str(found[0].delivery_id)
    assert "rejected" in cli(scene, "show", number)[1]
    assert cli(scene, "retry", number)[0] == 0
    assert cli(scene, "retry", "--all")[0] == 0
    wait_until(scene.is_delivered)
    scene.check_each_is_there_once()
    assert cli(scene, "retry", number)[0] == 1
    assert cli(scene, "show", "999999")[0] == 1
    assert cli(scene, "retry")[0] == 2


def test_the_deliver_command_delivers_and_stops_when_told(scene):
    scene.start_registry()
    scene.add_readings(range(10))
    worker = scene.start_worker(["-m", "fhir_server", "deliver"])
    wait_until(scene.is_delivered)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    scene.check_each_is_there_once()


def cli(scene, *arguments):
    return ended.run("deliveries", *arguments, environment={"FHIR_SERVER_STORE": scene.store_url})
