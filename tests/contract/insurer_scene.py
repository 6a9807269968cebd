"""An insurer who receives, a server that delivers to it, and what they know of a patient."""

import time

import requests

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.outbox.backoff import Backoff
from fhir_server.outbox.delivery_audit import DeliveryAudit
from fhir_server.outbox.fan_out import route_to
from fhir_server.outbox.sink_loop import Pace, SinkLoop
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState

INSURER = {"system": "urn:oid:1.2.643.5.1.13.13.99.2.183", "value": "46"}


OMS = {"system": "https://fhir.ru/ig/core/systems/oms", "value": "7777770000000007"}


LOINC = "http://loinc.org"


QUICK = Pace(delivery=Backoff(0.001, 0.002), receiver=Backoff(0.0, 0.0))


class Scene:
    """A store of a kind, a patient who is insured, and one worker's steps by hand."""

    def __init__(self, store_url, insurer, **section):
        self.insurer = insurer
        requests.delete(f"{insurer}/received", timeout=5)
        adapters = {
            "insurer": {
                "url": f"{insurer}/fhir",
                "identifier": f"{INSURER['system']}|{INSURER['value']}",
                **section,
            }
        }
        settings = Settings(
            store=store_url,
            adapters=adapters,
            allow_private_endpoints=True,
            base_url="http://here.example/fhir",
        )
        self.components = open_components(settings)
        self.outbox = self.components.store.outbox
        (self.sink,) = self.components.sinks()
        self.audit = DeliveryAudit(self.outbox, [self.sink.name])

    def put(self, *resources):
        def decide(tx):
            for resource in resources:
                key = ResourceKey(resource["resourceType"], resource["id"])
                tx.put(*next_version(tx.read(key), key, resource, tx.now))

        self.outbox.commit(decide)

    def read(self, resource_type, resource_id):
        return self.outbox.read(ResourceKey(resource_type, resource_id)).resource()

    def queue(self):
        while self.outbox.fan_out(route_to([self.sink], read=self.outbox.read), 100):
            pass

    def deliver(self):
        self.queue()
        loop = SinkLoop(self.outbox, self.sink, "me", QUICK, lambda: 0.5, _Never())
        deadline = time.monotonic() + 20
        while loop.step() is not None:
            assert time.monotonic() < deadline

    def received(self):
        return requests.get(f"{self.insurer}/received", timeout=5).json()

    def told(self):
        return self.received()["resources"]

    def states(self):
        found = self.outbox.list(None, (), 1000, 0)
        return {f"{each.key}/{each.version_id}": each.state.value for each in found}

    def reasons(self):
        return {d.reason for d in self.outbox.list(None, (DeliveryState.WITHHELD,), 1000, 0)}


class _Never:
    def is_set(self):
        return False

    def wait(self, _seconds):
        return False


_numbers = iter(range(10**6))


def person():
    value = f"77777700{next(_numbers):08d}"
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{**OMS, "value": value}],
        "name": [{"family": "Secret"}],
    }


def coverage(**changes):
    return {
        "resourceType": "Coverage",
        "id": "c1",
        "status": "active",
        "beneficiary": {"reference": "Patient/p1"},
        "payor": [{"reference": "Organization/org"}],
        "period": {"start": "2020-01-01"},
        **changes,
    }


ORGANIZATION = {"resourceType": "Organization", "id": "org", "identifier": [INSURER], "name": "I"}


def consent(status="active", **provision):
    actor = {
        "role": {"coding": [{"code": "IRCP"}]},
        "reference": {"reference": "Organization/org"},
    }
    return {
        "resourceType": "Consent",
        "id": "consent",
        "status": status,
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"code": "INFA"}]}],
        "patient": {"reference": "Patient/p1"},
        "policyRule": {"coding": [{"code": "OPTIN"}]},
        "provision": {"type": "permit", "actor": [actor], **provision},
    }


def pressure(number, systolic=120, day="2026-10-05"):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "identifier": [{"system": "urn:reading", "value": f"r{number}"}],
        "code": {"coding": [{"system": LOINC, "code": "85354-9"}]},
        "subject": {"reference": "Patient/p1"},
        "device": {"reference": "Device/d1"},
        "effectiveDateTime": f"{day}T08:00:00+03:00",
        "component": [
            {
                "code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
                "valueQuantity": {
                    "value": systolic,
                    "system": "http://unitsofmeasure.org",
                    "code": "mm[Hg]",
                },
            }
        ],
    }


def goal():
    return {
        "resourceType": "Goal",
        "id": "g1",
        "lifecycleStatus": "active",
        "description": {"text": "pressure"},
        "subject": {"reference": "Patient/p1"},
        "target": [
            {
                "measure": {"coding": [{"system": LOINC, "code": "8480-6"}]},
                "detailRange": {
                    "low": {"value": 100, "code": "mm[Hg]"},
                    "high": {"value": 140, "code": "mm[Hg]"},
                },
            }
        ],
    }
