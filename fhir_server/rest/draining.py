"""The time between the wish to stop and the end: readiness says no, requests are still taken.

A load balancer needs a moment to see that this process is going. Until then it is sent
requests, and a connection that is closed under one of them looks like a lost write.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_log = logging.getLogger(__name__)


class Draining:
    """Whether this process is about to stop; `seconds` is how long it says so before it does."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.is_on = False
        self._seconds = seconds

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Put the draining before whatever SIGTERM does now; call it on the event loop.

        Nothing changes where no Python code handles the signal, or off the main thread.
        Ctrl-C is not delayed: somebody waits in front of it.
        """
        before = signal.getsignal(signal.SIGTERM)
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or not callable(before):
            yield
            return
        loop = asyncio.get_running_loop()

        def stop(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin)

        def begin() -> None:
            if self.is_on:
                return
            self.is_on = True
            _log.info("stopping: not ready any more, for %s s still serving", self._seconds)
            loop.call_later(self._seconds, before, signal.SIGTERM, None)

        signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
