"""What is pushed goes through the recipient's policy: nothing tells the source, on either side.

Receivers are processes of their own; the store is a file, and is looked through as one.
"""

import asyncio
import base64
import json
import re
import subprocess
import sys
from contextlib import ExitStack

import pytest
import requests

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import deletion, next_version
from fhir_server.outbox.delivery_audit import DeliveryAudit
from fhir_server.outbox.socket_binding import SocketBinding
from fhir_server.outbox.worker import Worker
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState
from tests.faults.delivery_worker import PACE
from tests.faults.kit import free_port, registry, wait_until
from tests.faults.subscription_scene import BACKPORT, REPOSITORY

OMS = "https://fhir.ru/ig/core/systems/oms"
READING = "https://pmp.example/fhir/NamingSystem/reading"
INSURER = {"system": "urn:insurers", "value": "46"}
KEY = base64.b64encode(b"k" * 32).decode()
# Nothing of this may leave; some of it is only in ids.
SECRETS = ("src-pat", "src-obs", "src-dev", "Geheimova", "7770001112223334", "rdg-0001", "SN-4711")
POLICY = {
    "shift_days": 30,
    "adapters": ["hospital", "insurer", "national-registry"],
    "subscriptions": ["socket", "http://127.0.0.1:{port}/research"],
    "types": {
        "Patient": {"gender": "keep", "birthDate": "year", "identifier": "hash"},
        "Device": {"identifier": "hash"},
        "MeasureReport": ["status", "type", "measure", "subject", "period", "group"],
        "Observation": {
            "identifier": "hash",
            **dict.fromkeys(("status", "code", "subject", "device", "effective", "value"), "keep"),
        },
    },
}

PATIENT = {
    "resourceType": "Patient",
    "id": "src-pat",
    "identifier": [{"system": OMS, "value": "7770001112223334"}],
    "name": [{"family": "Geheimova"}],
    "gender": "female",
    "birthDate": "1950-06-07",
}
DEVICE = {
    "resourceType": "Device",
    "id": "src-dev",
    "identifier": [{"system": "urn:serial", "value": "SN-4711"}],
}
COVERED = (
    {"resourceType": "Organization", "id": "org", "identifier": [INSURER], "name": "I"},
    {
        "resourceType": "Coverage",
        "id": "c1",
        "status": "active",
        "beneficiary": {"reference": "Patient/src-pat"},
        "payor": [{"reference": "Organization/org"}],
        "period": {"start": "2020-01-01"},
    },
    {
        "resourceType": "Consent",
        "id": "consent",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"code": "INFA"}]}],
        "patient": {"reference": "Patient/src-pat"},
        "policyRule": {"coding": [{"code": "OPTIN"}]},
        "provision": {
            "type": "permit",
            "actor": [
                {
                    "role": {"coding": [{"code": "IRCP"}]},
                    "reference": {"reference": "Organization/org"},
                }
            ],
        },
    },
)


def observation(number, **more):
    return {
        "resourceType": "Observation",
        "id": f"src-obs-{number}",
        "status": "final",
        "identifier": [{"system": READING, "value": f"rdg-000{number}"}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/src-pat", "display": "Geheimova"},
        "device": {"reference": "Device/src-dev"},
        "effectiveDateTime": "2026-10-05T08:00:00+03:00",
        "valueQuantity": {"value": 71, "system": "http://unitsofmeasure.org", "code": "/min"},
        "note": [{"text": "Geheimova called"}],
        **more,
    }


def subscription(name, endpoint, content="full-resource", **channel):
    payload = {"extension": [{"url": f"{BACKPORT}payload-content", "valueCode": content}]}
    return {
        "resourceType": "Subscription",
        "id": name,
        "status": "requested",
        "reason": "test",
        "criteria": "Observation?code=8867-4",
        "channel": {
            "type": "rest-hook",
            **({"endpoint": endpoint} if endpoint else {}),
            "payload": "application/fhir+json",
            **({"_payload": payload} if content else {}),
            **channel,
        },
    }


class Scene:
    def __init__(self, folder, stack):
        self.folder = folder
        self.port, insurer = free_port(), free_port()
        self.url, self.insurer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{insurer}"
        for command in (
            [str(REPOSITORY / "tests/faults/rest_hook_receiver.py"), str(self.port)],
            ["-m", "adapters.insurer.stand_in", "--port", str(insurer)],
        ):
            child = subprocess.Popen([sys.executable, *command])
            stack.callback(child.wait)
            stack.callback(child.kill)
        self.registry = stack.enter_context(registry(folder))
        wait_until(lambda: all(map(is_up, (f"{self.url}/journal", f"{self.insurer}/received"))), 30)
        requests.post(f"{self.url}/control", json={"path": "/hospital", "is_fhir": True}, timeout=5)
        policy = json.loads(json.dumps(POLICY).replace("{port}", str(self.port)))
        self.components = open_components(
            Settings(
                store=f"sqlite:///{folder}/here.db",
                pseudonyms=folder / "keys" / "pseudonyms.db",
                pseudonym_key=KEY,
                deidentification={"research": policy},
                adapters={
                    "hospital": {"url": f"{self.url}/hospital"},
                    "insurer": {
                        "url": f"{self.insurer}/fhir",
                        "identifier": f"{INSURER['system']}|{INSURER['value']}",
                    },
                    "national-registry": {"url": f"{self.registry}/fhir"},
                },
                allow_private_endpoints=True,
                base_url="http://here.example/fhir",
            )
        )
        stack.callback(lambda: asyncio.run(self.components.store.close()))
        self.outbox = self.components.store.outbox
        self.sinks = self.components.sinks()

    def put(self, *resources):
        def decide(tx):
            for resource in resources:
                key = ResourceKey(resource["resourceType"], resource["id"])
                tx.put(*next_version(tx.read(key), key, resource, tx.now))

        self.outbox.commit(decide)

    def deliver(self, until):
        worker = Worker(
            self.outbox, self.sinks, subscriptions=self.components.subscriptions(PACE), pace=PACE
        )
        worker.start()
        try:
            wait_until(until, 30)
        finally:
            # The sinks are used again: only the threads end.
            worker._sinks = ()
            worker.stop(2.0)

    def states(self, *states):
        return [d for d in self.outbox.list(None, states, 10_000, 0) if d.sink != "Subscription"]

    def journal(self, path):
        return requests.get(f"{self.url}/journal", params={"path": path}, timeout=5).json()


def is_up(url):
    try:
        return requests.get(url, timeout=1).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with ExitStack() as stack:
        scene = Scene(tmp_path_factory.mktemp("masked"), stack)
        scene.put(PATIENT, DEVICE, *COVERED)
        scene.put(
            subscription("backport", f"{scene.url}/research/a"),
            subscription("bare", f"{scene.url}/research", content=None),
            subscription("letter", f"{scene.url}/research/m", content=None, type="message"),
            subscription("socket", "", type="websocket"),
            subscription("open", f"{scene.url}/researchers", content=None),
        )
        scene.put(observation(1))
        scene.put(observation(2, modifierExtension=[{"url": "urn:not", "valueBoolean": True}]))
        scene.outbox.commit(
            lambda tx: tx.put(
                deletion(tx.read(ResourceKey("Observation", "src-obs-2")), tx.now), None
            )
        )

        def is_done():
            waiting = scene.states(DeliveryState.QUEUED, DeliveryState.SENT)
            return len(scene.journal("/researchers")) >= 2 and {w.sink for w in waiting} <= {
                "Subscription/socket"
            }

        scene.deliver(is_done)
        yield scene


@pytest.fixture(scope="module")
def told(scene):
    """All that the recipients have of it, by the word for each."""
    return {
        "hook": json.dumps(scene.journal("/research/")),
        "bare": json.dumps(
            [e for e in scene.journal("/research") if "researchers" not in e["path"]]
        ),
        "hospital": json.dumps(scene.journal("/hospital")),
        "insurer": requests.get(f"{scene.insurer}/received", timeout=5).text,
        "registry": requests.get(f"{scene.registry}/requests", timeout=5).text
        + b"".join(p.read_bytes() for p in scene.folder.glob("registry.db*")).decode("latin-1"),
    }


@pytest.mark.parametrize("who", ["hook", "bare", "hospital", "insurer", "registry"])
def test_no_recipient_is_told_the_source(told, who):
    assert "8867-4" in told[who] or "MeasureReport" in told[who]
    assert [secret for secret in SECRETS if secret in told[who]] == []
    assert "2026-10-05" not in told[who]


def test_every_push_says_that_it_is_de_identified(told):
    for who in ("hook", "bare", "hospital", "insurer"):
        assert "PSEUDED" in told[who], who


def test_without_a_policy_nothing_changes(scene):
    first = scene.journal("/researchers")[0]
    assert first["path"].endswith("/Observation/src-obs-1")
    assert "Geheimova" in first["body"]


def test_what_the_policy_leaves_nothing_of_is_withheld(scene):
    withheld = scene.states(DeliveryState.WITHHELD)
    kept = {(d.sink, str(d.key)) for d in withheld}
    for sink in ("hospital", "Subscription/backport", "Subscription/bare"):
        assert (sink, "Observation/src-obs-2") in kept
    assert {d.reason for d in withheld if d.sink == "hospital"} == {
        "the recipient's policy leaves nothing of it"
    }


def test_a_recipient_knows_one_patient_by_one_name(told, scene):
    (notified,) = [e for e in scene.journal("/research/a") if '"event-notification"' in e["body"]]
    entry = json.loads(notified["body"])["entry"][1]
    given = entry["resource"]
    assert entry["fullUrl"] == f"http://here.example/fhir/Observation/{given['id']}"
    assert entry["request"]["url"] == f"Observation/{given['id']}"
    patient = given["subject"]["reference"].removeprefix("Patient/")
    assert scene.components.recipients.keys.patient("research", patient) == ("Patient", "src-pat")
    assert patient in told["bare"]
    assert patient in told["insurer"]
    assert f"/Observation/{given['id']}" in told["bare"]


def test_dates_move_together_with_the_moment_it_was_stored(scene):
    (notified,) = [e for e in scene.journal("/research/a") if '"event-notification"' in e["body"]]
    entry = json.loads(notified["body"])["entry"][1]
    stored = scene.outbox.read(ResourceKey("Observation", "src-obs-1")).last_updated
    days = scene.components.recipients.of_adapter("hospital")._masks.days(
        ResourceKey("Patient", "src-pat")
    )
    assert days != 0
    assert entry["response"]["lastModified"][:10] != stored.isoformat()[:10]


def test_what_the_hospital_calls_them_is_used_again(scene):
    by_path = {entry["path"]: entry for entry in scene.journal("/hospital")}
    (reading,) = [json.loads(e["body"]) for p, e in by_path.items() if "/Observation?" in p]
    assert re.fullmatch(r"Patient/there-[0-9a-f]+", reading["subject"]["reference"])
    assert re.fullmatch(r"Device/there-[0-9a-f]+", reading["device"]["reference"])


def test_nothing_de_identified_and_no_receipt_is_beside_the_source(scene, told):
    DeliveryAudit(scene.outbox, [sink.name for sink in scene.sinks]).step()
    stored = b"".join(p.read_bytes() for p in scene.folder.glob("here.db*")).decode("latin-1")
    names = set(re.findall(r"there-[0-9a-f]{12}|\b[0-9a-f]{32}\b", told["hospital"] + told["bare"]))
    assert names
    assert "src-obs-1" in stored
    assert [name for name in names if name in stored] == []
    # Digests are of what was told without a policy, and of handshakes.
    receipts = " ".join(d.receipt for d in scene.states() if d.sink.endswith(("open", "handshake")))
    assert [d for d in re.findall(r"sha256:[0-9a-f]{64}", stored) if d not in receipts] == []


def test_a_websocket_is_told_by_the_policy(scene):
    key = ResourceKey("Subscription", "socket")
    binding = SocketBinding(scene.components.sockets()._shared, key, by_token=True)
    told = binding.look()
    assert "8867-4" in told.text
    assert not any(secret in told.text for secret in SECRETS)
    assert '"PSEUDED"' in told.text


def test_a_deletion_is_told_under_the_name_that_was_given(scene):
    before = len(scene.journal("/hospital"))
    key = ResourceKey("Observation", "src-obs-1")
    scene.outbox.commit(lambda tx: tx.put(deletion(tx.read(key), tx.now), None))
    scene.deliver(lambda: len(scene.journal("/hospital")) > before)
    last = scene.journal("/hospital")[-1]
    assert json.loads(last["body"])["status"] == "entered-in-error"
    assert not any(secret in json.dumps(last) for secret in SECRETS)


def test_without_the_keys_nothing_is_sent_and_the_ledger_says_why(scene):
    file = scene.folder / "keys" / "pseudonyms.db"
    away = file.with_name("away.db")
    before = len(scene.journal("/research"))
    file.rename(away)
    try:
        scene.put(observation(3))

        def is_told_why():
            waiting = scene.states(DeliveryState.QUEUED, DeliveryState.SENT)
            about = {d.sink for d in waiting if d.reason and "keys of pseudonyms" in d.reason}
            return about >= {"hospital", "insurer", "national-registry", "Subscription/backport"}

        scene.deliver(is_told_why)
        sent = [e for e in scene.journal("/research") if "researchers" not in e["path"]]
        assert len(sent) <= before
        assert "rdg-0003" not in json.dumps(sent)
    finally:
        away.rename(file)
