"""A server, its subscriptions and a receiver, each a process of its own."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests
from fhir.resources.R4B.bundle import Bundle

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import deletion, next_version
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState

REPOSITORY = Path(__file__).resolve().parents[2]


BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"


TOPICS = "https://pmp.example/fhir/SubscriptionTopic/"


READING_SYSTEM = "https://pmp.example/fhir/NamingSystem/reading"


BASE = "https://pmp.example/fhir/r4"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def wait_until(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Scene:
    """A store in this process; receivers and workers in their own."""

    def __init__(self, folder):
        self.settings = {
            "store": f"sqlite:///{folder}/fhir.db",
            "base_url": BASE,
            "allow_private_endpoints": True,
        }
        self.components = open_components(Settings(**self.settings))
        self.outbox = self.components.store.outbox
        self.children = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start_receiver(self):
        child = self._start("tests/faults/rest_hook_receiver.py", str(self.port))
        wait_until(self._is_listening, 20)
        return child

    def start_worker(self):
        return self._start(
            "tests/faults/subscription_worker.py",
            FHIR_SERVER_STORE=self.settings["store"],
            FHIR_SERVER_BASE_URL=BASE,
            FHIR_SERVER_ALLOW_PRIVATE_ENDPOINTS="1",
        )

    def behave(self, path, **behaviour):
        answer = requests.post(f"{self.url}/control", json={"path": path, **behaviour}, timeout=5)
        answer.raise_for_status()

    def journal(self, path):
        return requests.get(f"{self.url}/journal", params={"path": path}, timeout=5).json()

    def commit(self, decide):
        return asyncio.run(self.components.store.commit(decide))

    def put(self, *resources):
        def decide(tx):
            for resource in resources:
                key = ResourceKey(resource["resourceType"], resource["id"])
                tx.put(*next_version(tx.read(key), key, resource, tx.now))

        self.commit(decide)

    def delete(self, key):
        self.commit(lambda tx: tx.put(deletion(tx.read(key), tx.now), None))

    def read(self, name):
        return self.outbox.read(ResourceKey(*name.split("/")))

    def status(self, subscription_id):
        return self.read(f"Subscription/{subscription_id}").resource()["status"]

    def activate(self, *subscriptions):
        self.put(*subscriptions)
        for each in subscriptions:
            wait_until(lambda name=each["id"]: self.status(name) == "active")

    def states(self, sink):
        found = self.outbox.list(sink, tuple(DeliveryState), 100_000, 0)
        return [delivery.state.value for delivery in found]

    def is_told(self, sink, count):
        """Whether `sink` had that many deliveries and all of them were accepted."""
        assert not any((child.poll() or 0) > 0 for child in self.children), "a process failed"
        return self.states(sink) == ["accepted"] * count

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()
        asyncio.run(self.components.store.close())

    def _is_listening(self):
        try:
            return requests.get(f"{self.url}/journal", timeout=1).ok
        except requests.ConnectionError:
            return False

    def _start(self, *arguments, **environment):
        child = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        )
        self.children.append(child)
        return child


def plain(scene, name, criteria, payload="application/fhir+json", path=None, **more):
    channel = {"type": "rest-hook", "endpoint": f"{scene.url}{path or '/' + name}", **more}
    if payload:
        channel["payload"] = payload
    return {
        "resourceType": "Subscription",
        "id": name,
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": channel,
    }


def by_topic(scene, name, topic, content="id-only", filters=(), extensions=(), **more):
    found = plain(scene, name, TOPICS + topic, **more)
    found["channel"]["_payload"] = {
        "extension": [{"url": f"{BACKPORT}payload-content", "valueCode": content}]
    }
    found["channel"]["extension"] = [
        {"url": BACKPORT + extension, **value} for extension, value in extensions
    ]
    found["_criteria"] = {
        "extension": [
            {"url": f"{BACKPORT}filter-criteria", "valueString": each} for each in filters
        ]
    }
    if not filters:
        del found["_criteria"]
    if not extensions:
        del found["channel"]["extension"]
    return found


def reading(number, patient="p1", value=80, system=READING_SYSTEM):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "identifier": [{"system": system, "value": f"r{number}"}],
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "valueQuantity": {"value": value, "unit": "/min"},
    }


def told(request):
    """The status parameters of a notification, by name; it is parsed by somebody else first."""
    bundle = json.loads(request["body"])
    Bundle.model_validate(bundle)
    assert bundle["type"] == "history"
    parameters = bundle["entry"][0]["resource"]["parameter"]
    found = {}
    for parameter in parameters:
        value = next((v for k, v in parameter.items() if k.startswith("value")), None)
        if parameter["name"] == "notification-event":
            parts = {
                part["name"]: next(v for k, v in part.items() if k.startswith("value"))
                for part in parameter["part"]
            }
            found.setdefault("events", []).append(parts)
        else:
            found[parameter["name"]] = value
    found["entries"] = bundle["entry"][1:]
    return found


def numbers(requests_):
    """Event number to the reference told by it; the same number always tells the same."""
    found = {}
    for request in requests_:
        if request["status"] != 200:
            continue
        for event in told(request).get("events", ()):
            number, focus = int(event["event-number"]), event["focus"]["reference"]
            assert found.setdefault(number, focus) == focus
    return found
