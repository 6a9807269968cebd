"""Processes of the benchmark: started, waited for, measured, stopped."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 60.0


@dataclass(frozen=True)
class Process:
    """One that listens on `port`; what it uses is counted with its children."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def resident_bytes(self) -> int:
        return sum(_resident(pid) for pid in self._pids())

    def cpu_seconds(self) -> float:
        return sum(_cpu(pid) for pid in self._pids())

    def _pids(self) -> Iterator[int]:
        yield self.process.pid
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        yield from map(int, listed.read_text("ascii").split())


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1_024
    return 0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(
    command: Sequence[str], port: int, ready_path: str, env: dict[str, str]
) -> Iterator[Process]:
    process = subprocess.Popen(command, env={**os.environ, **env})
    try:
        _await_answer(process, f"http://127.0.0.1:{port}{ready_path}")
        yield Process(port, process)
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _await_answer(process: "subprocess.Popen[bytes]", url: str) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} is not ready after {_PATIENCE:.0f} s")


@contextmanager
def fhir_server(
    store: str,
    *,
    workers: int = 1,
    is_delivering: bool = False,
    is_judging: bool = True,
    is_recording: bool = False,
) -> Iterator[Process]:
    """The server under test; with `is_recording` every access is on its audit trail."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "fhir_server", "serve", "--port", str(port)),
        *("--workers", str(workers)),
        *(() if is_delivering else ("--no-deliver",)),
    ]
    env = {
        "FHIR_SERVER_STORE": store,
        "FHIR_SERVER_AUTH": "none",
        "FHIR_SERVER_AUDIT": "on" if is_recording else "off",
        "FHIR_SERVER_LOG_LEVEL": "warning",
        "FHIR_SERVER_DRAIN_SECONDS": "0",
        "FHIR_SERVER_PLAN_TEMPLATES": "0",
        "FHIR_SERVER_MONITORING": "1" if is_judging else "0",
        "FHIR_SERVER_ALLOW_PRIVATE_ENDPOINTS": "1",
    }
    with _running(command, port, "/health/ready", env) as server:
        yield server


@contextmanager
def bare_server() -> Iterator[Process]:
    """The yardstick, served by the same uvicorn with the same options."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "bench.bare_app:app", "--port", str(port),
        "--no-access-log", "--log-level", "warning", "--no-server-header", "--no-proxy-headers",
    ]  # fmt: skip
    with _running(command, port, "/kept/1", {}) as server:
        yield server


@contextmanager
def receiver() -> Iterator[Process]:
    """An endpoint that takes notifications and counts them."""
    port = free_port()
    command = [sys.executable, "-m", "bench.receiver", str(port)]
    with _running(command, port, "/counts", {}) as server:
        yield server
