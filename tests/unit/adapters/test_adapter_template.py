"""The template for adapters of third parties works as it stands, found by its entry point."""

import asyncio
import json
import sys
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.settings import Settings
from fhir_server.store.protocol import DeliveryState

TEMPLATE = Path(__file__).parents[3] / "docs/adapter-template"
POLICY = "https://fhir.ru/ig/core/systems/oms"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The template's package as pip would leave it: importable, with its metadata beside."""
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))["project"]
    info = tmp_path / "acme_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(TEMPLATE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_adapter"]:
        del sys.modules[name]


@pytest.fixture
def acme():
    """Acme's server: the URL and what it was told."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            told.append((self.path, json.loads(self.rfile.read(length))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", told
    server.shutdown()
    thread.join()
    server.server_close()


def opened(tmp_path, **adapters):
    return open_components(
        Settings(
            store=f"sqlite:///{tmp_path}/fhir.db", adapters=adapters, allow_private_endpoints=True
        )
    )


def put(components, *resources):
    def decide(tx):
        for resource in resources:
            key = ResourceKey(resource["resourceType"], resource["id"])
            tx.put(*next_version(tx.read(key), key, resource, tx.now))

    components.store.outbox.commit(decide)


def patient(**more):
    identifier = [{"system": POLICY, "value": "7777770000000007"}]
    return {"resourceType": "Patient", "id": "p1", "identifier": identifier, **more}


def observation(resource_id):
    return {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "code": {"text": "pulse"},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-10-05T08:00:00Z",
    }


def test_the_template_delivers_and_withholds(installed, acme, tmp_path):
    url, told = acme
    components = opened(tmp_path, acme={"url": url})
    outbox = components.store.outbox
    worker = components.worker()
    put(components, patient(), observation("o1"))
    worker.start()
    wait_for(outbox, {("acme", DeliveryState.ACCEPTED): 1})
    put(components, patient(active=False), observation("o2"))
    worker.nudge()
    wait_for(outbox, {("acme", DeliveryState.ACCEPTED): 1, ("acme", DeliveryState.WITHHELD): 1})
    worker.stop()
    asyncio.run(components.store.close())
    message = {"policy": "7777770000000007", "measuredOn": ["2026-10-05"]}
    assert told == [("/measured", message)]


def wait_for(outbox, counts):
    deadline = time.monotonic() + 20
    while outbox.counts() != counts:
        assert time.monotonic() < deadline, outbox.counts()
        time.sleep(0.02)


def test_an_adapter_that_is_not_installed_is_said_with_those_that_are(installed, tmp_path):
    components = opened(tmp_path, misspelt={})
    known = "acme, document-registry, hospital, insurer, national-registry"
    with pytest.raises(ValueError, match=known):
        components.sinks()
    asyncio.run(components.store.close())


def test_a_package_that_cannot_be_loaded_is_said(installed, tmp_path):
    points = tmp_path / "acme_adapter-1.0.dist-info/entry_points.txt"
    points.write_text("[fhir_server.adapters]\nbroken = acme_adapter.sink:nothing\n")
    components = opened(tmp_path, broken={})
    with pytest.raises(ValueError, match="the adapter broken cannot be loaded"):
        components.sinks()
    asyncio.run(components.store.close())


def test_a_misspelt_setting_is_named(installed, tmp_path):
    components = opened(tmp_path, acme={"url": "http://127.0.0.1:1", "tokn": "x"})
    with pytest.raises(ValueError, match=r"adapters.acme has unknown settings: tokn"):
        components.sinks()
    asyncio.run(components.store.close())
