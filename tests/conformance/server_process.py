"""A server as operators run it: a process of its own, asked and loaded from outside."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import requests

ID = "Petrova-SNILS-11223344595"


def environment(**more):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FHIR_SERVER_")}
    return {**inherited, "FHIR_SERVER_AUTH": "none", **more}


def run(*arguments, cwd=None, **variables):
    """A command that ends by itself: its exit code and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "fhir_server", *map(str, arguments)],
        env=environment(**variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


class Process:
    """A `fhir-server serve` of its own."""

    def __init__(self, folder, *arguments, **variables):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{self.port}.log"
        mine = {
            "FHIR_SERVER_STORE": f"sqlite:///{folder / 'fhir.db'}",
            "FHIR_SERVER_DRAIN_SECONDS": "0",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "fhir_server",
                    "serve",
                    "--port",
                    str(self.port),
                    *arguments,
                ],
                env=environment(**{**mine, **variables}),
                stdout=log,
                stderr=log,
            )

    def __enter__(self):
        # A busy machine takes long to start two workers.
        deadline = time.monotonic() + 90
        while not self.is_ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def is_ready(self):
        try:
            return requests.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def stop(self):
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


def patient(number):
    return {"resourceType": "Patient", "id": f"p{number}"}


def put(connection, number):
    """PUT a patient on a kept connection; its status."""
    connection.request(
        "PUT",
        f"/fhir/Patient/p{number}",
        json.dumps(patient(number)),
        {"Content-Type": "application/fhir+json"},
    )
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Load:
    """Clients behind a load balancer: none begins a request when the server is not ready."""

    def __init__(self, server, connections):
        self.server = server
        self.connections = connections
        self.is_over = threading.Event()
        self.acknowledged = []
        self.broken = []

    def client(self, lane):
        number = lane
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)) as kept:
            while not self.is_over.is_set():
                try:
                    status = put(kept, number)
                except (OSError, http.client.HTTPException) as error:
                    self.broken.append((number, repr(error)))
                    return
                if status == 201:
                    self.acknowledged.append(number)
                else:
                    self.broken.append((number, status))
                number += self.connections

    def watch(self):
        while not self.is_over.is_set():
            if not self.server.is_ready():
                self.is_over.set()
            time.sleep(0.02)
