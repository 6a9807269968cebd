"""The demo shows the whole way, says what is missing, and leaves no process behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(folder, port, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "fhir_server", "demo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PORT": str(port), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_delivers_every_example_once_and_ends(tmp_path):
    port = free_port()
    with start(tmp_path, port, ONCE="1") as running:
        said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert "Everything arrived, once." in said
    assert "blood pressure" in said
    assert not is_listening(port)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_nothing_behind(tmp_path, stop):
    port = free_port()
    with start(tmp_path, port, ONCE="") as running:
        deadline = time.monotonic() + 60
        while not is_listening(port):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        running.send_signal(stop)
        running.communicate(timeout=60)
    assert not is_listening(port)


def test_a_taken_port_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(tmp_path, port, ONCE="1") as running:
            said, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert f"port {port} is taken" in said
