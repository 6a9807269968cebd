"""A real broker, listeners as processes, and a sender that knows what the broker took."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.faults.kit import free_port, wait_until

USER, PASSWORD = "listener", "a secret of the test"


def mosquitto(name="mosquitto"):
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert path, f"{name} is not installed: apt-get install mosquitto"
    return path


class Broker:
    """mosquitto with a database that outlives it."""

    def __init__(self, folder, lines=()):
        self.folder = folder
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.process = None
        self.configuration = folder / "mosquitto.conf"
        self.log = folder / "mosquitto.log"
        common = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_on_changes true",
            "autosave_interval 1",
            "max_queued_messages 0",
        ]
        if os.geteuid() == 0:
            # It would give up root for a user who cannot enter the test's folder.
            common.append("user root")
        if not lines:
            common.append("allow_anonymous true")
        self.configuration.write_text("\n".join([*common, *lines]) + "\n")

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [mosquitto(), "-c", str(self.configuration)], stdout=log, stderr=log
            )

        def is_up():
            assert self.process.poll() is None, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                return False
            return True

        wait_until(is_up, 20)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


class Listening:
    """`fhir-server listen` as a process."""

    def __init__(self, folder, store, *arguments, name="listener", **settings):
        self.log = folder / f"{name}.log"
        self.store = store
        self.metrics_port = free_port()
        self.arguments = [
            *map(str, arguments),
            "--client-id",
            name,
            "--metrics-port",
            str(self.metrics_port),
        ]
        self.settings = {f"FHIR_SERVER_{key.upper()}": value for key, value in settings.items()}
        self.process = None

    def start(self):
        environment = {**os.environ, "FHIR_SERVER_STORE": self.store, **self.settings}
        command = [sys.executable, "-m", "fhir_server", "listen", *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        return self

    def wait_until_connected(self):
        seen = self.said().count("connected to")

        def is_connected():
            assert self.process.poll() is None, self.said()
            return self.said().count("connected to") > seen

        wait_until(is_connected, 30)

    def said(self):
        return self.log.read_text() if self.log.exists() else ""

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


class Publisher:
    """Publishes with QoS 1; `publish` returns when the broker has taken all of it."""

    def __init__(self, port, configure=lambda client: None):
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, "sender", protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.max_inflight_messages_set(100)
        configure(self.client)
        connected = threading.Event()
        self.client.on_connect = lambda *_: connected.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port, clean_start=False)
        self.client.loop_start()
        assert connected.wait(10)

    def publish(self, messages, properties=None):
        wait_until(self.client.is_connected, 20)
        taken = [
            self.client.publish(topic, payload, qos=1, properties=properties)
            for topic, payload in messages
        ]
        for each in taken:
            each.wait_for_publish(60)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def pulses(device, count, start=0):
    """Messages of one device, a minute apart, each with a value of its own."""
    begin = datetime(2024, 1, 2, tzinfo=UTC)
    for minute in range(start, start + count):
        payload = {
            "type": "Heart Rate",
            "time": (begin + timedelta(minutes=minute)).isoformat(),
            "device": device,
            "values": {"beatsPerMinute": 40 + minute % 100},
        }
        yield f"devices/{device}/readings", json.dumps(payload)


def certificates(folder: Path):
    """An authority, the broker's certificate for 127.0.0.1, and a listener's own."""

    def openssl(*arguments):
        subprocess.run(
            ["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True
        )

    request = ("req", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    authority = ("-CA", "ca.pem", "-CAkey", "ca.key")
    openssl(*request, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name, more in (("broker", ["-addext", "subjectAltName=IP:127.0.0.1"]), ("client", [])):
        openssl(
            *request, "-x509", *authority, "-subj", f"/CN={name}", *more,
            "-addext", "basicConstraints=CA:FALSE",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
