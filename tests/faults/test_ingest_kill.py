"""The server is killed at random moments while readings stream in; nothing is lost or doubled.

`FHIR_SERVER_TEST_SCALE` multiplies the load: 10 is the long run of 20,000 readings.
"""

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests

from tests import ended

SCALE = float(os.environ.get("FHIR_SERVER_TEST_SCALE", "1"))
CONNECTIONS = 8
READINGS = int(2_000 * SCALE) // CONNECTIONS * CONNECTIONS
# What one request carries varies, so that kills meet single payloads and lists.
SIZES = (1, 1, 2, 5, 25)
SERIAL = "https://maker.example/serial"
LIMIT = 120


class Server:
    """A `fhir-server serve` of its own, which can be killed and started again."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = f"sqlite:///{folder / 'fhir.db'}"
        self.log = folder / "server.log"
        self.process = None

    def run(self, *arguments, **more):
        command = [sys.executable, "-m", "fhir_server", *map(str, arguments)]
        return subprocess.Popen(command, env={**os.environ, **self.environment()}, **more)

    def environment(self):
        return {"FHIR_SERVER_STORE": self.store, "FHIR_SERVER_AUTH": "none"}

    def ended(self, *arguments):
        """The exit code of a command that ends by itself, and what it said."""
        return ended.run(*arguments, environment=self.environment())

    def start(self):
        with self.log.open("ab") as log:
            self.process = self.run(
                "serve", "--port", str(self.port), "--no-deliver", stdout=log, stderr=log
            )
        while not self.is_ready():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def is_ready(self):
        try:
            return requests.get(f"{self.url}/health/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def check_store(self):
        """The exit code of `check-store` and what it said."""
        return self.ended("check-store", "--store", self.store)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    if server.process.poll() is None:
        server.kill()


def put(url, resource):
    answer = requests.put(
        f"{url}/fhir/{resource['resourceType']}/{resource['id']}", json=resource, timeout=30
    )
    assert answer.status_code == 201, answer.text


def enrol(url, number):
    identifier = [{"system": SERIAL, "value": f"device-{number}"}]
    put(url, {"resourceType": "Patient", "id": f"patient-{number}"})
    put(url, {"resourceType": "Device", "id": f"device-{number}", "identifier": identifier})
    put(
        url,
        {
            "resourceType": "DeviceUseStatement",
            "id": f"use-{number}",
            "status": "active",
            "subject": {"reference": f"Patient/patient-{number}"},
            "device": {"reference": f"Device/device-{number}"},
            "timingPeriod": {"start": "2024-01-01"},
        },
    )
    limit = {"value": LIMIT, "system": "http://unitsofmeasure.org", "code": "/min"}
    pulse = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    put(
        url,
        {
            "resourceType": "Goal",
            "id": f"goal-{number}",
            "lifecycleStatus": "active",
            "description": {"text": "Pulse"},
            "subject": {"reference": f"Patient/patient-{number}"},
            "target": [{"measure": pulse, "detailQuantity": {**limit, "comparator": "<="}}],
        },
    )


def payloads(number):
    """Readings of one device, a minute apart, with a value that tells them apart."""
    start = datetime(2024, 1, 2, tzinfo=UTC)
    for minute in range(READINGS // CONNECTIONS):
        yield {
            "type": "Heart Rate",
            "time": (start + timedelta(minutes=minute)).isoformat(),
            "device": f"device-{number}",
            "values": {"beatsPerMinute": 40 + minute % 100},
        }


class Sender:
    """One connection that repeats each request until it has seen its 200."""

    def __init__(self, url, number):
        self.url = f"{url}/readings/iot-hub"
        self.waiting = list(payloads(number))
        self.chance = random.Random(number)
        self.acknowledged = {}
        self.repeats = 0
        self.http = requests.Session()

    def run(self):
        while self.waiting:
            size = self.chance.choice(SIZES)
            some, self.waiting = self.waiting[:size], self.waiting[size:]
            results = self.send(some)
            assert [r["index"] for r in results] == list(range(len(some)))
            for payload, result in zip(some, results, strict=True):
                assert result["verdict"] in ("accepted", "duplicate"), result
                self.acknowledged[payload["device"], payload["time"]] = result["resources"][0]

    def send(self, some):
        is_one = len(some) == 1
        body = b"\n".join(json.dumps(payload).encode() for payload in some)
        content_type = "application/json" if is_one else "application/x-ndjson"
        for _ in range(2_000):
            try:
                answer = self.http.post(
                    self.url, data=body, headers={"Content-Type": content_type}, timeout=30
                )
            except requests.RequestException:
                self.repeats += 1
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                return answer.json()["results"]
            assert answer.status_code == 503, answer.text
            assert answer.headers["Retry-After"]
            self.repeats += 1
            time.sleep(0.05)
        raise AssertionError("the server did not come back")


def kill_at_random(server, stopped, kills, chance):
    """How often the server was killed before the stream ended."""
    for count in range(kills):
        if stopped.wait(chance.uniform(0.05, 0.4)):
            return count
        server.kill()
        server.start()
    return kills


def stored(url):
    """Every Observation as (device, time), with its id, as a client pages through them."""
    link = f"{url}/fhir/Observation?_count=500"
    while link:
        bundle = requests.get(link, timeout=60).json()
        for entry in bundle.get("entry", ()):
            resource = entry["resource"]
            yield (
                resource["device"]["reference"].removeprefix("Device/"),
                datetime.fromisoformat(resource["effectiveDateTime"]),
                f"Observation/{resource['id']}",
                resource["valueQuantity"]["value"],
            )
        links = {part["relation"]: part["url"] for part in bundle.get("link", ())}
        link = links.get("next")


def test_every_acknowledged_reading_is_there_once_after_kills(server):
    for number in range(CONNECTIONS):
        enrol(server.url, number)
    stopped = threading.Event()
    senders = [Sender(server.url, number) for number in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS + 1) as pool:
        most = max(3, int(4 * SCALE))
        killed = pool.submit(kill_at_random, server, stopped, most, random.Random())
        sending = [pool.submit(sender.run) for sender in senders]
        try:
            for sent in sending:
                sent.result()
        finally:
            stopped.set()
    assert killed.result() > 0
    assert sum(sender.repeats for sender in senders) > 0

    found = list(stored(server.url))
    times = Counter((device, when) for device, when, _, _ in found)
    assert max(times.values()) == 1
    acknowledged = {
        (device, datetime.fromisoformat(when)): reference
        for sender in senders
        for (device, when), reference in sender.acknowledged.items()
    }
    assert len(acknowledged) == READINGS
    assert {(device, when): reference for device, when, reference, _ in found} == acknowledged
    for number in range(CONNECTIONS):
        mine = sorted(
            (when, value) for device, when, _, value in found if device[-1] == str(number)
        )
        assert [v for _, v in mine] == [p["values"]["beatsPerMinute"] for p in payloads(number)]
        assert alerts(server.url, number) == beyond(payloads(number))
    server.kill()
    code, said = server.check_store()
    assert code == 0, said


def alerts(url, number):
    """From when to when each alert of a patient is; the last may go on."""
    found = requests.get(
        f"{url}/fhir/DetectedIssue?patient=patient-{number}&_count=1000", timeout=30
    ).json()
    periods = [entry["resource"]["identifiedPeriod"] for entry in found.get("entry", ())]
    return sorted((p["start"], p.get("end")) for p in periods)


def beyond(of):
    """From the first reading beyond the limit to the first that is not, each time."""
    found = []
    for payload in of:
        is_beyond = payload["values"]["beatsPerMinute"] > LIMIT
        moment = payload["time"].replace("+00:00", "Z")
        if is_beyond and (not found or found[-1][1]):
            found.append((moment, None))
        elif not is_beyond and found and not found[-1][1]:
            found[-1] = (found[-1][0], moment)
    return found


def test_a_payload_of_many_readings_is_stored_whole_or_not_at_all(server):
    enrol(server.url, 0)
    records = [
        {
            "DataID": f"{minute:032x}",
            "DataSource": "FromDevice",
            "HP": 120,
            "LP": 80,
            "HR": 0,
            "IsArr": 0,
            "LastChangeTime": 1710000000,
            "MDate": 1710000000 + 60 * minute,
            "Note": "",
            "TimeZone": "+0000",
        }
        for minute in range(400)
    ]
    body = json.dumps({"BPDataList": records, "BPUnit": 0})
    killing = threading.Timer(random.Random().uniform(0.02, 0.3), server.kill)
    killing.start()
    with contextlib.suppress(requests.RequestException):
        requests.post(
            f"{server.url}/readings/ihealth",
            params={"device": f"{SERIAL}|device-0"},
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
    killing.join()
    server.start()
    bundle = requests.get(f"{server.url}/fhir/Observation?_summary=count", timeout=30).json()
    assert bundle["total"] in (0, len(records))


def test_while_the_store_is_taken_a_reading_is_refused_and_nothing_of_it_kept(server):
    enrol(server.url, 0)
    payload = next(payloads(0))
    taken = sqlite3.connect(server.store.removeprefix("sqlite:///"), isolation_level=None)
    taken.execute("BEGIN IMMEDIATE")
    answer = requests.post(f"{server.url}/readings/iot-hub", json=payload, timeout=120)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["issue"][0]["code"] == "transient"
    taken.execute("ROLLBACK")
    taken.close()
    assert list(stored(server.url)) == []
    again = requests.post(f"{server.url}/readings/iot-hub", json=payload, timeout=120).json()
    assert again["accepted"] == 1
