"""Server processes of the benchmark: started, waited for, measured, stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests


@dataclass
class Server:
    """A running server; `resident_bytes` and `cpu_seconds` are the process's own."""

    port: int
    process: subprocess.Popen[bytes]

    def resident_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text("ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(
    command: list[str], port: int, ready_path: str, env: dict[str, str]
) -> Iterator[Server]:
    process = subprocess.Popen(command, env={**os.environ, **env})
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}")
            try:
                if requests.get(f"http://127.0.0.1:{port}{ready_path}", timeout=1).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.1)
        else:
            raise RuntimeError(f"{command} is not ready after a minute")
        yield Server(port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@contextmanager
def fhir_server(store: str) -> Iterator[Server]:
    """The server under test, without delivery."""
    port = free_port()
    command = [sys.executable, "-m", "fhir_server", "serve", "--port", str(port), "--no-deliver"]
    env = {"FHIR_SERVER_STORE": store, "FHIR_SERVER_LOG_LEVEL": "warning"}
    with _running(command, port, "/health/ready", env) as server:
        yield server


@contextmanager
def bare_server() -> Iterator[Server]:
    """The yardstick, served by the same uvicorn with the same options."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "bench.bare_app:app", "--port", str(port),
        "--no-access-log", "--log-level", "warning", "--no-server-header", "--no-proxy-headers",
    ]  # fmt: skip
    with _running(command, port, "/kept/1", {}) as server:
        yield server
