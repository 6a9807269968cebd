"""Five subscribers, of which one is well, while servers and a worker are killed at random.

`FHIR_SERVER_TEST_SCALE` multiplies the load: 10 is the long run of 10,000 readings.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
import requests

from tests.faults.kit import SCALE, Server, assert_sound, free_port, wait_until

RECEIVER = Path(__file__).with_name("chaos_receiver.py")
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
TOPIC = "https://pmp.example/fhir/SubscriptionTopic/reading-accepted"
SYSTEM = "https://pmp.example/fhir/NamingSystem/reading"
READINGS = 100 if SCALE == 1 else int(1_000 * SCALE)
# Every fifth reading is corrected, so that resources have an order to keep.
CORRECTED = 5
A_SECOND = 60 if SCALE <= 1 else 100
KILL_EVERY = 1.2 if SCALE <= 1 else 5.0
WRITERS = 3
LIVING = ("fine", "slow", "failing", "cutting")


class Process(Server):
    """A server that delivers too, or a worker that does nothing else."""

    def __init__(self, folder, store, *, is_worker=False):
        super().__init__(
            folder,
            store=store,
            allow_private_endpoints="1",
            base_url="https://pmp.example/fhir/r4",
        )
        self.is_worker = is_worker

    def start(self):
        with self.log.open("ab") as log:
            arguments = ("deliver",) if self.is_worker else ("serve", "--port", self.port)
            self.process = self.run(*arguments, stdout=log, stderr=log)
        if not self.is_worker:
            wait_until(lambda: self.process.poll() is not None or self.is_ready(), 30)
        assert self.process.poll() is None, self.log.read_text()


class Receivers:
    def __init__(self, journal):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.journal = journal
        command = [sys.executable, str(RECEIVER), str(self.port), str(self.journal)]
        self.process = subprocess.Popen(command, env={**os.environ})
        wait_until(self.answers, 20)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def answers(self):
        try:
            return requests.get(self.url, timeout=1).ok
        except requests.ConnectionError:
            return False

    def took(self):
        """Requests with events in them by receiver, in the order they came."""
        found = defaultdict(list)
        for line in self.journal.read_text().splitlines():
            request = json.loads(line)
            if request["told"]:
                found[request["name"]].append(request)
        return found


@pytest.fixture
def receivers(tmp_path):
    started = Receivers(tmp_path / "journal")
    yield started
    started.kill()


@pytest.fixture
def doomed(tmp_path):
    """A receiver that agrees to be told, and then is no more."""
    started = Receivers(tmp_path / "doomed")
    yield started
    started.kill()


@pytest.fixture
def processes(tmp_path):
    store = f"sqlite:///{tmp_path / 'fhir.db'}"
    started = [Process(tmp_path, store), Process(tmp_path, store)]
    started.append(Process(tmp_path, store, is_worker=True))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Process.start, started))
    yield started
    for each in started:
        if each.process.poll() is None:
            each.kill()


def subscription(name, endpoint, most):
    return {
        "resourceType": "Subscription",
        "id": name,
        "status": "requested",
        "reason": "chaos",
        "criteria": TOPIC,
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
            "_payload": {
                "extension": [{"url": f"{BACKPORT}payload-content", "valueCode": "full-resource"}]
            },
            "extension": [{"url": f"{BACKPORT}max-count", "valuePositiveInt": most}],
        },
    }


class Writer:
    """Writes its share of the readings, each until it is acknowledged, at a steady pace."""

    def __init__(self, number, urls):
        self.number = number
        self.urls = list(urls)
        self.http = requests.Session()

    def run(self):
        begun = time.monotonic()
        for count, reading in enumerate(range(self.number, READINGS, WRITERS)):
            time.sleep(max(0.0, begun + count * WRITERS / A_SECOND - time.monotonic()))
            self.put(reading, 80)
            if reading % CORRECTED == 0:
                self.put(reading, 81)

    def put(self, reading, value):
        body = {
            "resourceType": "Observation",
            "id": f"o{reading}",
            "identifier": [{"system": SYSTEM, "value": f"r{reading}"}],
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": f"Patient/p{reading % 7}"},
            "valueQuantity": {"value": value, "unit": "/min"},
        }
        while True:
            try:
                # Put again it changes nothing, so a lost answer makes no second version.
                url = f"{self.urls[0]}/fhir/Observation/{body['id']}"
                if self.http.put(url, json=body, timeout=10).status_code in (200, 201):
                    return
            except requests.RequestException:
                pass
            self.urls.reverse()
            time.sleep(0.02)


def standing(url, name):
    """What `$status` says."""
    answer = requests.get(f"{url}/fhir/Subscription/{name}/$status", timeout=30)
    assert answer.status_code == 200, answer.text
    parameters = answer.json()["entry"][0]["resource"]["parameter"]
    return {p["name"]: next(v for k, v in p.items() if k != "name") for p in parameters}


def ledger(process, name):
    """Deliveries of a subscription by state, as the command line tells."""
    listing = process.run(
        "deliveries", "list", "--sink", f"Subscription/{name}", "--json", "--limit", "100000",
        *(f"--state={state}" for state in ("queued", "sent", "accepted", "parked")),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    said, _ = listing.communicate(timeout=120)
    counts = defaultdict(int)
    for line in said.decode().splitlines():
        counts[json.loads(line)["state"]] += 1
    return counts


def is_told(process, names, count):
    def all_accepted():
        answer = requests.get(f"{process.url}/metrics", timeout=30).text
        wanted = (
            f'fhir_server_outbox_deliveries{{sink="Subscription/{name}",state="accepted"}} '
            f"{float(count)}"
            for name in names
        )
        return all(each in answer for each in wanted)

    return all_accepted


def check_told(name, requests_, count):
    """Every event once by number, in order for each resource; the delays by event."""
    versions = defaultdict(list)
    first, resources = {}, {}
    for request in requests_:
        for number, resource_id, version_id, updated in request["told"]:
            assert resources.setdefault(number, (resource_id, version_id)) == (
                resource_id,
                version_id,
            ), f"{name}: one number, two events"
            committed = datetime.fromisoformat(updated).timestamp()
            first.setdefault(number, request["at"] - committed)
            versions[resource_id].append(version_id)
    assert sorted(resources) == list(range(1, count + 1)), name
    assert len(set(resources.values())) == count, f"{name}: one event, two numbers"
    for told in versions.values():
        assert told == sorted(told), f"{name}: an older version after a newer one"
    return first


def test_chaos_loses_nothing_doubles_nothing_and_delays_nobody_who_is_well(
    receivers, doomed, processes
):
    chance = random.Random(7)
    first, second, _worker = processes
    most = {"fine": 20, "slow": 50, "failing": 10, "cutting": 10}
    for name in (*LIVING, "dead"):
        endpoint = f"{(receivers if name in LIVING else doomed).url}/{name}"
        found = subscription(name, endpoint, most.get(name, 20))
        url = f"{first.url}/fhir/Subscription/{name}"
        assert requests.put(url, json=found, timeout=10).status_code == 201
    for name in (*LIVING, "dead"):
        wait_until(lambda name=name: standing(first.url, name)["status"] == "active", 20)
    doomed.kill()

    writers = [Writer(number, (first.url, second.url)) for number in range(WRITERS)]
    kills = 0
    with ThreadPoolExecutor(WRITERS) as pool:
        work = [pool.submit(writer.run) for writer in writers]
        pause = threading.Event()
        while not all(done.done() for done in work):
            pause.wait(chance.uniform(0.5, 1.5) * KILL_EVERY)
            victim = chance.choice(processes)
            victim.send(signal.SIGKILL)
            victim.process.wait()
            kills += 1
            victim.start()
        for done in work:
            done.result()
    count = READINGS + len(range(0, READINGS, CORRECTED))
    wait_until(is_told(first, LIVING, count), 30 + 60 * SCALE, every=0.5)

    took = receivers.took()
    delays = {name: check_told(name, took[name], count) for name in LIVING}
    for name in ("failing", "cutting"):
        # A key is always the same events: whoever drops one that he has seen loses nothing.
        by_key = {}
        for request in took[name]:
            told = [event[0] for event in request["told"]]
            assert by_key.setdefault(request["key"], told) == told
    p95 = sorted(delays["fine"].values())[int(count * 0.95)]
    print(  # noqa: T201 - what the long run is for
        f"\n{count} events, {kills} kills; the fine one's p95 delay {p95:.3f} s"
    )
    assert p95 < 2.0

    for name in (*LIVING, "dead"):
        told = standing(second.url, name)
        counts = ledger(first, name)
        assert int(told["events-since-subscription-start"]) == sum(counts.values()) == count
        if name in LIVING:
            assert counts["accepted"] == count
    assert ledger(first, "dead")["accepted"] == 0
    assert_sound(first)
