"""Push to another FHIR server: our own as a second process, behind a gate that wants tokens."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from joserfc.jwk import RSAKey

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import deletion, next_version
from fhir_server.outbox.worker import Worker
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState
from tests.faults.delivery_worker import PACE
from tests.faults.kit import Server, free_port, running, wait_until

CLIENT, SECRET = "monitoring", "a secret: with ü"
GATE = Path(__file__).with_name("guarded_hospital.py")
OMS = "https://fhir.ru/ig/core/systems/oms"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """The hospital's server, and the URL of its gate."""
    folder = tmp_path_factory.mktemp("hospital")
    key = RSAKey.generate_key(2048)
    (folder / "private.pem").write_bytes(key.as_pem(private=True))
    (folder / "public.pem").write_bytes(key.as_pem(private=False))
    server = Server(folder, auth="none", deliver="0")
    port = free_port()
    with running(server):
        command = [port, server.url, CLIENT, SECRET, folder / "public.pem"]
        gate = subprocess.Popen([sys.executable, str(GATE), *map(str, command)])
        server.gate = f"http://127.0.0.1:{port}"
        server.key_file = str(folder / "private.pem")
        try:
            wait_until(lambda: is_up(f"{server.gate}/given"), 30)
            yield server
        finally:
            gate.kill()
            gate.wait()


def is_up(url):
    try:
        return requests.get(url, timeout=1).ok
    except requests.ConnectionError:
        return False


def oauth(hospital, **proof):
    return {"token_url": f"{hospital.gate}/token", "client_id": CLIENT, **proof}


class Scene:
    def __init__(self, folder, hospital, **section):
        section = {
            "url": f"{hospital.gate}/fhir",
            "oauth": oauth(hospital, client_secret=SECRET),
            "types": ["Observation", "Goal"],
            **section,
        }
        self.components = open_components(
            Settings(
                store=f"sqlite:///{folder}/here.db",
                adapters={"hospital": section},
                allow_private_endpoints=True,
            )
        )
        self.outbox = self.components.store.outbox
        self.worker = Worker(self.outbox, self.components.sinks(), pace=PACE)
        self.worker.start()

    def put(self, *resources):
        def decide(tx):
            for resource in resources:
                key = ResourceKey(resource["resourceType"], resource["id"])
                tx.put(*next_version(tx.read(key), key, resource, tx.now))

        self.outbox.commit(decide)
        self.worker.nudge()

    def delete(self, resource_type, resource_id):
        key = ResourceKey(resource_type, resource_id)
        self.outbox.commit(lambda tx: tx.put(deletion(tx.read(key), tx.now), None))

    def wait(self, count):
        accepted = ("hospital", DeliveryState.ACCEPTED)
        wait_until(lambda: self.outbox.counts() == {accepted: count}, 30)

    def close(self):
        self.worker.stop(1.0)
        asyncio.run(self.components.store.close())


@pytest.fixture
def scene(tmp_path, hospital):
    opened = Scene(tmp_path, hospital)
    yield opened
    opened.close()


def there(hospital, query):
    bundle = requests.get(f"{hospital.url}/fhir/{query}", timeout=10).json()
    return [entry["resource"] for entry in bundle.get("entry", ())]


def given(hospital):
    return requests.get(f"{hospital.gate}/given", timeout=5).json()


def patient(value):
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": OMS, "value": value}],
        "name": [{"family": "Here"}],
        "managingOrganization": {"reference": "Organization/ours", "display": "Ours"},
    }


DEVICE = {
    "resourceType": "Device",
    "id": "d1",
    "identifier": [{"system": "urn:serial", "value": "S|1,2"}],
    "patient": {"reference": "Patient/p1"},
}


def reading(value, status="final", **more):
    return {
        "resourceType": "Observation",
        "id": f"o-{value}",
        "identifier": [{"system": "urn:reading", "value": value}],
        "status": status,
        "code": {"text": "pulse"},
        "subject": {"reference": "Patient/p1"},
        "device": {"reference": "Device/d1"},
        **more,
    }


def test_references_become_the_other_sides_and_nothing_is_doubled(scene, hospital):
    known = patient("policy-1") | {"name": [{"family": "There"}]}
    del known["id"], known["managingOrganization"]
    created = requests.post(f"{hospital.url}/fhir/Patient", json=known, timeout=10).json()
    scene.put(patient("policy-1"), DEVICE, reading("a1"))
    scene.wait(1)
    scene.put(reading("a1", "amended"), reading("a2"))
    scene.wait(3)
    found = there(hospital, "Observation?identifier=urn:reading|a1,urn:reading|a2")
    assert sorted(each["status"] for each in found) == ["amended", "final"]
    subjects = {each["subject"]["reference"] for each in found}
    assert subjects == {f"Patient/{created['id']}"}
    (same,) = there(hospital, f"Patient?identifier={OMS}|policy-1")
    assert same["name"] == [{"family": "There"}]
    (device,) = there(hospital, r"Device?identifier=urn:serial|S\|1\,2")
    assert device["patient"]["reference"] == f"Patient/{created['id']}"
    assert {each["device"]["reference"] for each in found} == {f"Device/{device['id']}"}


def test_what_has_no_identifier_gets_one_of_ours(scene, hospital):
    goal = {
        "resourceType": "Goal",
        "id": "goal-7",
        "lifecycleStatus": "active",
        "description": {"text": "x"},
        "subject": {"reference": "Patient/p1"},
    }
    scene.put(patient("policy-2"), goal)
    scene.put(goal | {"lifecycleStatus": "completed"})
    scene.wait(2)
    system = "https://pmp.example/fhir/NamingSystem/resource"
    (found,) = there(hospital, f"Goal?identifier={system}|Goal/goal-7")
    assert found["lifecycleStatus"] == "completed"


def test_what_was_deleted_here_is_a_mistake_there(scene, hospital):
    scene.put(patient("policy-3"), DEVICE, reading("c1"))
    scene.delete("Observation", "o-c1")
    scene.wait(2)
    (found,) = there(hospital, "Observation?identifier=urn:reading|c1")
    assert found["status"] == "entered-in-error"


def test_a_token_is_kept_and_fetched_again_when_it_is_void(scene, hospital):
    before = given(hospital).get("secret", 0)
    scene.put(patient("policy-4"), DEVICE, reading("d1"))
    scene.wait(1)
    scene.put(reading("d2"))
    scene.wait(2)
    assert given(hospital)["secret"] == before + 1
    requests.post(f"{hospital.gate}/revoke", timeout=5)
    scene.put(reading("d3"))
    scene.wait(3)
    assert given(hospital)["secret"] == before + 2


def test_a_signed_assertion_proves_who_we_are(tmp_path, hospital):
    before = given(hospital).get("assertion", 0)
    proof = oauth(hospital, key_file=hospital.key_file, algorithm="RS384")
    scene = Scene(tmp_path, hospital, oauth=proof)
    scene.put(patient("policy-5"), DEVICE, reading("e1"))
    scene.wait(1)
    scene.close()
    assert given(hospital)["assertion"] == before + 1


def test_a_wrong_secret_waits_and_is_not_in_the_ledger(tmp_path, hospital):
    scene = Scene(tmp_path, hospital, oauth=oauth(hospital, client_secret="hush"))
    scene.put(patient("policy-6"), DEVICE, reading("f1"))
    wait_until(lambda: any(d.reason for d in scene.outbox.list(None, (), 9, 0)))
    (delivery,) = scene.outbox.list(None, (), 9, 0)
    scene.close()
    assert delivery.reason == "the token endpoint answered 401 without a token"


def test_a_crash_between_sending_and_noting_doubles_nothing(tmp_path, hospital):
    scene = Scene(tmp_path, hospital)
    scene.worker.stop(1.0)
    scene.put(patient("policy-7"), DEVICE, reading("g1"))
    (sink,) = scene.components.sinks()
    version = scene.outbox.read(ResourceKey("Observation", "o-g1"))
    assert sink.deliver([version], "k") == sink.deliver([version], "k")
    (other,) = scene.components.sinks()
    other.deliver([version], "k")
    assert len(there(hospital, "Observation?identifier=urn:reading|g1")) == 1
    assert len(there(hospital, f"Patient?identifier={OMS}|policy-7")) == 1
    scene.close()


def test_a_slow_hospital_gets_the_rest_later(tmp_path, hospital, monkeypatch):
    from fhir_server.errors import DeliveryDeferred

    scene = Scene(tmp_path, hospital)
    scene.worker.stop(1.0)
    scene.put(patient("policy-8"), DEVICE, reading("h1"))
    (sink,) = scene.components.sinks()
    version = scene.outbox.read(ResourceKey("Observation", "o-h1"))
    later = time.monotonic() + 10**6
    clock = iter([time.monotonic(), later])
    monkeypatch.setattr("adapters.hospital.sink.time.monotonic", lambda: next(clock, later))
    with pytest.raises(DeliveryDeferred, match="slow"):
        sink.deliver([version], "k")
    monkeypatch.undo()
    scene.close()
