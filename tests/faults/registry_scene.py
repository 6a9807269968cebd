"""A server with the document registry's adapter and the stand-in registry, each a process."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path

import requests

from fhir_server.app import open_components
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState
from tests.faults.kit import Server, free_port, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SNILS = "https://fhir.ru/ig/core/systems/snils"
DOCTOR_SNILS = "17400354229"
CODE = "https://pmp.example/fhir/CodeSystem/task|document-registration"
TOKEN = "callback secret"


def make_key(folder, name, *options, **environment):
    """A key and its own certificate, as PEM files."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = [
        *("openssl", "req", "-x509", "-nodes", "-days", "30", "-subj", f"/CN={name}"),
        *("-newkey", *(options or ("rsa:2048",)), "-keyout", str(key), "-out", str(certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    return {"certificate": str(certificate), "key": str(key)}


class Scene:
    def __init__(self, folder, store=None, callback=True, **section):
        self.folder = folder
        self.registry_port = free_port()
        self.registry_url = f"http://127.0.0.1:{self.registry_port}"
        self.doctor = make_key(folder, "doctor")
        self.organization = make_key(folder, "organization")
        authority = folder / "authority.pem"
        authority.write_bytes(
            b"".join((folder / f"{n}.crt").read_bytes() for n in ("doctor", "organization"))
        )
        self.authority = authority
        section = {
            "url": f"{self.registry_url}/emdr",
            "client_entity_id": "7d4f7f2e-0000-4000-8000-000000000001",
            "callback_token": TOKEN,
            "organization": {"oid": "1.2.643.5.1.13.13.12.2.77.1", "name": "Клиника № 1"},
            "doctors": {DOCTOR_SNILS: self.doctor},
            "organization_key": self.organization,
            "attend_seconds": 0.2,
            "retry_seconds": 0.5,
            "connect_seconds": 1.0,
            "read_seconds": 2.0,
            "total_seconds": 3.0,
            **section,
        }
        self.server = Server(
            folder,
            store,
            auth="none",
            adapters=json.dumps({"document-registry": section}),
            allow_private_endpoints="1",
        )
        self.children = []
        self.registry = None

    @property
    def callback(self):
        return f"{self.server.url}/registry/documents"

    def start_registry(self):
        command = [
            *(sys.executable, "-m", "adapters.national_registry.stand_in"),
            *("--port", str(self.registry_port), "--journal", str(self.folder / "registry.db")),
            *("--callback", self.callback, "--callback-token", TOKEN),
            *("--signer-ca", str(self.authority)),
        ]
        self.registry = subprocess.Popen(command)
        self.children.append(self.registry)
        wait_until(lambda: self._answers(f"{self.registry_url}/documents"), 20)

    def start_server(self, *options):
        with self.server.log.open("ab") as log:
            self.server.process = self.server.run(
                "serve", "--port", self.server.port, *options, stdout=log, stderr=log
            )
        self.children.append(self.server.process)
        wait_until(self.server.is_ready, 30)

    def start_worker(self):
        """One with short leases, so that what a killed one held is soon taken over."""
        environment = {**os.environ, **self.server.settings, "FHIR_SERVER_STORE": self.server.store}
        worker = subprocess.Popen(
            [sys.executable, "tests/faults/delivery_worker.py"],
            cwd=REPOSITORY,
            env={**environment, "PYTHONPATH": str(REPOSITORY)},
        )
        self.children.append(worker)
        return worker

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        if "components" in self.__dict__:
            asyncio.run(self.components.store.close())

    def set_fault(self, kind, times=1):
        body = {"kind": kind, "times": times}
        url = f"{self.registry_url}/document-faults"
        requests.post(url, json=body, timeout=5).raise_for_status()

    def documents(self):
        return requests.get(f"{self.registry_url}/documents", timeout=5).json()

    def put(self, resource):
        url = f"{self.server.url}/fhir/{resource['resourceType']}/{resource['id']}"
        answer = requests.put(url, json=resource, timeout=30)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def search(self, resource_type, **params):
        url = f"{self.server.url}/fhir/{resource_type}"
        answer = requests.get(url, params={"_count": 500, **params}, timeout=30)
        assert answer.status_code == 200, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", ())]

    def tasks(self, plan):
        return self.search("Task", code=CODE, **{"based-on": f"CarePlan/{plan}"})

    def states(self, plan):
        return sorted(task["businessStatus"]["coding"][0]["code"] for task in self.tasks(plan))

    def wait_for(self, plan, *states, seconds=30):
        deadline = time.monotonic() + seconds
        while self.states(plan) != sorted(states):
            assert time.monotonic() < deadline, (self.states(plan), self.said())
            time.sleep(0.05)

    def said(self):
        """What the server's log has of anything but requests."""
        lines = self.server.log.read_text().splitlines()
        return [line[27:] for line in lines if " request " not in line][-8:]

    def enrol(self, name, status="active", readings=0, snils="11223344595"):
        """A patient with a plan of a week, and what was measured."""
        self.put(doctor())
        self.put(patient(name, snils))
        self.put(device(name))
        for number in range(readings):
            self.put(reading(name, number))
        self.put(plan(name, status))

    @cached_property
    def components(self):
        return open_components(Settings(store=self.server.store))

    def rejected(self, word):
        """Rejected deliveries whose reason has the word in it."""
        found = self.components.store.outbox.list(None, (DeliveryState.REJECTED,), 1_000, 0)
        return [delivery for delivery in found if word in delivery.reason]

    def retry(self, delivery):
        assert self.components.store.outbox.retry([delivery.delivery_id]) == 1

    def file(self, uid):
        url = f"{self.registry_url}/documents/{uid}/file"
        return requests.get(url, timeout=5).content

    def binary(self, uid, part):
        url = f"{self.server.url}/fhir/Binary/{uid}.{part}"
        headers = {"Accept": "application/fhir+json"}
        return base64.b64decode(requests.get(url, headers=headers, timeout=5).json()["data"])

    def _answers(self, url):
        try:
            return requests.get(url, timeout=1).ok
        except requests.RequestException:
            return False


def doctor():
    return {
        "resourceType": "Practitioner",
        "id": "orlova",
        "identifier": [{"system": SNILS, "value": DOCTOR_SNILS}],
        "name": [{"family": "Орлова", "given": ["Марина", "Сергеевна"]}],
    }


def patient(name, snils):
    identifier = [{"system": SNILS, "value": snils}] if snils else []
    body = {
        "resourceType": "Patient",
        "id": name,
        "name": [{"family": "Иванова", "given": ["Мария", "Петровна"]}],
        "gender": "female",
        "birthDate": "1961-02-03",
    }
    return {**body, **({"identifier": identifier} if identifier else {})}


def device(name):
    return {
        "resourceType": "Device",
        "id": f"cuff-{name}",
        "deviceName": [{"name": "Тонометр", "type": "user-friendly-name"}],
        "serialNumber": f"SN-{name}",
    }


def reading(name, number):
    pressures = ((120 + number, "8480-6"), (70 + number, "8462-4"))
    return {
        "resourceType": "Observation",
        "id": f"{name}-{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": {"reference": f"Patient/{name}"},
        "device": {"reference": f"Device/cuff-{name}"},
        "effectiveDateTime": f"2024-05-{1 + number % 7:02d}T08:00:00+03:00",
        "component": [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "valueQuantity": {
                    "value": value,
                    "unit": "mmHg",
                    "system": "http://unitsofmeasure.org",
                    "code": "mm[Hg]",
                },
            }
            for value, code in pressures
        ],
    }


def plan(name, status):
    return {
        "resourceType": "CarePlan",
        "id": name,
        "status": status,
        "intent": "order",
        "title": "Давление дома",
        "subject": {"reference": f"Patient/{name}"},
        "period": {"start": "2024-05-01", "end": "2024-05-07"},
        "author": {"reference": "Practitioner/orlova"},
        "activity": [
            {
                "detail": {
                    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
                    "status": "scheduled",
                    "scheduledTiming": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}},
                }
            }
        ],
    }
