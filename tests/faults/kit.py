"""What the fault tests share: servers of their own, writers that repeat, and what must hold."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import quote

import requests

from tests.faults.test_ingest_kill import Server as KilledServer

SCALE = float(os.environ.get("FHIR_SERVER_TEST_SCALE", "1"))
SYSTEM = "urn:fault"
PAGE_KEY = "the same for every process"


class Server(KilledServer):
    """`fhir-server serve` on any store, with settings of its own."""

    def __init__(self, folder, store=None, **settings):
        super().__init__(folder)
        self.store = store or self.store
        self.log = folder / f"server-{self.port}.log"
        settings = {"plan_templates": "0", **settings}
        self.settings = {f"FHIR_SERVER_{name.upper()}": value for name, value in settings.items()}

    def environment(self):
        return {
            **super().environment(),
            "FHIR_SERVER_DRAIN_SECONDS": "0",
            "FHIR_SERVER_PAGE_KEY": PAGE_KEY,
            **self.settings,
        }

    def send(self, signal_number):
        self.process.send_signal(signal_number)

    def get(self, path, **params):
        return requests.get(f"{self.url}/fhir/{path}", params=params, timeout=30)


@contextmanager
def running(*servers):
    """The servers started at the same moment; killed at the end."""
    try:
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(Server.start, servers))
        yield servers
    finally:
        for server in servers:
            if server.process and server.process.poll() is None:
                server.kill()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def registry(folder):
    """The URL of the registry's stand-in, a process of its own that keeps what it was sent."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    module = "adapters.national_registry.stand_in"
    journal = str(folder / "registry.db")
    command = [sys.executable, "-m", module, "--port", str(port), "--journal", journal]
    process = subprocess.Popen(command)

    def answers():
        assert process.poll() is None, "the registry ended"
        try:
            return requests.get(f"{url}/counts", timeout=1).ok
        except requests.ConnectionError:
            return False

    try:
        wait_until(answers, 20)
        yield url
    finally:
        process.kill()
        process.wait()


def wait_until(holds, seconds=60.0, every=0.05):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(every)


class Writer:
    """Creates one resource after the other, each until it is acknowledged.

    `acknowledged` has their ids by value, `refused` the answers that were no success.
    """

    def __init__(self, urls, name, patience=10.0, padding=0):
        self.urls = urls
        self.name = name
        self.patience = patience
        self.padding = "x" * padding
        self.acknowledged = {}
        self.refused = Counter()
        self.http = requests.Session()

    def run(self, stopped, most=10**9):
        for number in range(most):
            if stopped.is_set():
                return
            self.create(f"{self.name}-{number}", stopped)

    def create(self, value, stopped=None):
        identifier = {"system": SYSTEM, "value": value}
        body = {"resourceType": "Basic", "identifier": [identifier], "code": {"text": value}}
        if self.padding:
            body["text"] = {
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{self.padding}</div>',
            }
        attempt = 0
        while not (stopped and stopped.is_set()):
            url = self.urls[attempt % len(self.urls)]
            attempt += 1
            answer = self.post(url, body, value)
            if answer is None:
                self.refused["no answer"] += 1
                time.sleep(0.02)
                continue
            if answer.status_code in (200, 201):
                # Its ETag tells which version was seen; the id is in the location.
                parts = answer.headers["Location"].split("/")
                self.acknowledged[value] = parts[parts.index("Basic") + 1]
                return
            check_refusal(answer)
            self.refused[answer.status_code] += 1
            time.sleep(0.05)

    def post(self, url, body, value):
        headers = {
            "Content-Type": "application/fhir+json",
            "If-None-Exist": "identifier=" + quote(f"{SYSTEM}|{value}"),
            "Prefer": "return=minimal",
        }
        try:
            return self.http.post(
                f"{url}/fhir/Basic", data=json.dumps(body), headers=headers, timeout=self.patience
            )
        except requests.RequestException:
            return None


def check_refusal(answer):
    """A refusal says that it may be repeated, and when."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["issue"][0]["code"] == "transient"


@contextmanager
def writing(writers):
    """The writers at work beside the body, until it ends."""
    stopped = threading.Event()
    with ThreadPoolExecutor(len(writers)) as pool:
        work = [pool.submit(writer.run, stopped) for writer in writers]
        try:
            yield
        finally:
            stopped.set()
        for done in work:
            done.result()


def total(writers):
    return sum(len(writer.acknowledged) for writer in writers)


def wait_for_more(writers, count, seconds=60.0):
    """Until so many more were acknowledged than are now."""
    before = total(writers)
    wait_until(lambda: total(writers) >= before + count, seconds)


def found(url):
    """Every value that is stored, with its id, by the pages of a search."""
    link = f"{url}/fhir/Basic?_count=500"
    values = []
    while link:
        answer = requests.get(link, timeout=60)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        for entry in bundle.get("entry", ()):
            resource = entry["resource"]
            values.append((resource["identifier"][0]["value"], resource["id"]))
        links = {part["relation"]: part["url"] for part in bundle.get("link", ())}
        link = links.get("next")
    return values


def assert_each_once(url, writers):
    """Each acknowledged write is there once, under the id that was told."""
    stored = found(url)
    times = Counter(value for value, _ in stored)
    twice = {value for value, count in times.items() if count > 1}
    assert [pair for pair in stored if pair[0] in twice] == []
    acknowledged = {}
    for writer in writers:
        for value, resource_id in writer.acknowledged.items():
            assert acknowledged.setdefault(value, resource_id) == resource_id
    assert acknowledged.items() <= dict(stored).items()


def assert_sound(server):
    code, said = server.check_store()
    assert code == 0, said
