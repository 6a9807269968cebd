"""The demo's other processes: started, watched, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import requests


class DemoError(Exception):
    """The demo cannot go on; the message is for the person who started it."""


class Child(NamedTuple):
    """A process of ours; what it says goes to `log`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Children:
    """Processes that end with this one's `with` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The last one first: the server goes before what it delivers to.
        for child in reversed(self._running):
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
            try:
                child.process.wait(20)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Run `python arguments…`; Ctrl-C in the terminal reaches us alone, and we stop it."""
        log = self._folder / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._running.append(child)
        return child

    def check_alive(self) -> None:
        """Raise `DemoError` with the last words of a process that ended."""
        for child in self._running:
            if child.process.poll() is not None:
                words = child.log.read_text(errors="replace").splitlines()[-15:]
                raise DemoError("\n".join([f"the {child.name} ended:", *words]))

    def wait(self) -> None:
        """For ever, or until a process ends, which raises `DemoError`."""
        while True:
            self.check_alive()
            time.sleep(1)

    def wait_for_answer(self, url: str, seconds: float) -> None:
        """Wait until a GET of `url` succeeds.

        Raises:
            DemoError: a process ended, or it took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not _answers(url):
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"{url} did not answer in {seconds:.0f} seconds")
            time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def is_port_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
