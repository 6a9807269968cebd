"""Reading: short work at once on the event loop, longer work on a thread, never without end.

A hop to a thread costs more than a point read takes. So everything starts inline; what
is not done within a budget is interrupted and run again in the lane of the medium ones, and
what takes longer still in that of the long ones: nobody waits behind something much longer.
"""

import asyncio
import math
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, TypeVar

from fhir_server.errors import StoreUnavailable, TooCostly
from fhir_server.store.sqlite.connection import is_interrupted, translated, unavailable
from fhir_server.store.turns import TurnLimits, Turns, client

T = TypeVar("T")

# After how many steps a statement asks for the time: about every 20 microseconds. Each
# question takes the interpreter's lock, and where others hold it that is a wait of
# milliseconds: the more time there is, the more seldom it is asked.
_STEPS = 1_000
_STEPS_PER_SECOND = 50_000
# Many times what a page of a patient takes: a statement counts its steps over all its runs.
_STEPS_OF_A_PAGE = 20_000
# Of those that read for seconds: the event loop does not share its processor with them evenly.
_NICENESS = 10
# Where others have the processor, a search stands still and costs nobody anything: up to so
# many times its budget it may take, if it has not worked for all of that. A slow disk counts.
_PATIENCE = 10


class ReadLimits(NamedTuple):
    """Seconds: what may be done on the event loop, in a decision, and by one request at all.

    `inline` and `medium` are of work, the others are of waiting. All writers wait for a
    decision. What takes longer than `medium` begins anew among the long ones. Each of the
    two lanes has its `threads`, and as many as `waiting` requests wait for one; one client
    never has all.
    """

    inline: float = 0.002
    medium: float = 0.2
    decision: float = 3.0
    total: float = 15.0
    threads: int = 3
    waiting: int = 100

    def turns(self) -> TurnLimits:
        mine = max(1, self.threads - 1)
        return TurnLimits(self.threads, mine, self.waiting, self.waiting, self.total)


class Clocked:
    """A connection whose statements are interrupted at a deadline."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.unwanted: threading.Event | None = None
        self._deadline = math.inf
        self._last = math.inf
        self._worked_up_to: float | None = math.inf
        self._seconds = math.inf
        self._steps = 0

    def at_once(self, work: Callable[[sqlite3.Connection], T | None], seconds: float) -> T | None:
        """`work` of one statement, without a transaction; None too if it took longer."""
        now = time.monotonic()
        self._deadline, self._last = now + seconds, now + _PATIENCE * seconds
        self._worked_up_to, self._seconds = None, seconds
        self._ask_after(_STEPS_OF_A_PAGE)
        try:
            return work(self.connection)
        except sqlite3.OperationalError as error:
            if is_interrupted(error):
                return None
            raise
        finally:
            self._deadline = math.inf

    def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        seconds: float,
        at_once: Callable[[sqlite3.Connection], T | None] | None = None,
        *,
        is_patient: bool = False,
    ) -> T:
        """`work` on one snapshot of the file; `is_patient` where time is lost to others.

        Raises:
            TooCostly: it took longer.
        """
        now = time.monotonic()
        self._deadline = now + seconds
        self._last = now + _PATIENCE * seconds if is_patient else self._deadline
        self._worked_up_to = None if is_patient else 0.0
        self._seconds = seconds
        connection = self.connection
        self._ask_after(_steps(seconds))
        try:
            found = None if at_once is None else at_once(connection)
            if found is not None:
                return found
            connection.execute("BEGIN")
            return work(connection)
        except sqlite3.OperationalError as error:
            raise _too_costly(error) from None
        finally:
            self._deadline = math.inf
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _ask_after(self, steps: int) -> None:
        if steps != self._steps:
            self._steps = steps
            self.connection.set_progress_handler(self._is_late, steps)

    def _is_late(self) -> bool:
        if self._worked_up_to is None:
            # Asked for only here: most are done before they are asked for the time at all.
            self._worked_up_to = time.thread_time() + self._seconds
        if self.unwanted is not None and self.unwanted.is_set():
            return True
        now = time.monotonic()
        return now > self._deadline and (
            now > self._last or time.thread_time() > self._worked_up_to
        )


def limited(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], seconds: float
) -> T:
    """`work` within the transaction that a connection is in.

    Raises:
        TooCostly: it took longer than `seconds`; the transaction goes on.
    """
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _steps(seconds))
    try:
        return work(connection)
    except sqlite3.OperationalError as error:
        raise _too_costly(error) from None
    finally:
        connection.set_progress_handler(None, _STEPS)


def _steps(seconds: float) -> int:
    return max(_STEPS, int(min(seconds, 60.0) * _STEPS_PER_SECOND))


def _too_costly(error: sqlite3.OperationalError) -> Exception:
    if is_interrupted(error):
        return TooCostly("the search takes longer than one request may")
    return error


class _Lane:
    """Threads for reads of about one length, taken in turns by client."""

    def __init__(self, name: str, limits: ReadLimits, niceness: int = 0) -> None:
        self._pool = ThreadPoolExecutor(
            limits.threads, name, initializer=_yield_to_others, initargs=(niceness,)
        )
        self._turns = Turns(limits.turns())

    async def run(self, work: Callable[[threading.Event], T]) -> T:
        """What `work` returns or raises; it is told when nobody waits for it any more.

        Raises:
            StoreUnavailable: too many others wait.
            Throttled: too many of this client wait.
        """
        name = client.get()
        await self._turns.take(name)
        unwanted = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, unwanted)
        finally:
            unwanted.set()
            self._turns.give_back(name)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _yield_to_others(niceness: int) -> None:
    """Let the calling thread have the processor only after those that are not so nice."""
    # Elsewhere than on Linux it is the process that has a priority, and not each thread.
    if niceness and sys.platform == "linux":
        thread = threading.get_native_id()
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, before + niceness)


class Readers:
    """The reading connections of a store; any thread may use it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], limits: ReadLimits) -> None:
        self._connect = connect
        self._limits = limits
        self._idle: deque[Clocked] = deque()
        self._medium = _Lane("sqlite-medium", limits)
        self._long = _Lane("sqlite-long", limits, _NICENESS)
        self._lock = threading.Lock()
        self._is_closed = False

    def point(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A read of a few rows: inline, in whichever thread asks."""
        clocked = self._take()
        try:
            with translated():
                return work(clocked.connection)
        finally:
            self._give_back(clocked)

    async def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        at_once: Callable[[sqlite3.Connection], T | None] | None = None,
    ) -> T:
        """Work of unknown length; it must be safe to run twice.

        `at_once` may find the answer in one statement, for which no transaction is begun.

        Raises:
            TooCostly: it took longer than one request may.
            StoreUnavailable: too many others wait for a thread.
        """
        try:
            return self._patiently(work, self._limits.inline, at_once)
        except TooCostly:
            medium = self._limits.medium
        if medium < self._limits.total:
            with suppress(TooCostly):
                return await self._medium.run(
                    lambda unwanted: self._patiently(work, medium, unwanted=unwanted)
                )
        return await self._long.run(lambda unwanted: self.bounded(work, unwanted=unwanted))

    def at_once(self, work: Callable[[sqlite3.Connection], T | None]) -> T | None:
        """What one short statement finds, inline; None: it finds nothing, or takes longer."""
        clocked = self._take()
        try:
            return clocked.at_once(work, self._limits.inline)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.ProgrammingError):
                raise
            raise unavailable(error) from error
        finally:
            self._give_back(clocked)

    def _patiently(
        self,
        work: Callable[[sqlite3.Connection], T],
        seconds: float,
        at_once: Callable[[sqlite3.Connection], T | None] | None = None,
        unwanted: threading.Event | None = None,
    ) -> T:
        clocked = self._take()
        clocked.unwanted = unwanted
        try:
            with translated():
                return clocked.run(work, seconds, at_once, is_patient=True)
        finally:
            self._give_back(clocked)

    def bounded(
        self,
        work: Callable[[sqlite3.Connection], T],
        seconds: float | None = None,
        unwanted: threading.Event | None = None,
    ) -> T:
        """`work` on a snapshot, in the calling thread, within `seconds` (or a request's limit).

        It is interrupted when it becomes `unwanted`, as if it had taken too long.
        """
        clocked = self._take()
        clocked.unwanted = unwanted
        try:
            with translated():
                return clocked.run(work, self._limits.total if seconds is None else seconds)
        finally:
            self._give_back(clocked)

    def close(self) -> None:
        """Wait for what is running, then close every connection."""
        with self._lock:
            self._is_closed = True
        self._medium.close()
        self._long.close()
        while self._idle:
            self._idle.pop().connection.close()

    def _take(self) -> Clocked:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return Clocked(self._connect())

    def _give_back(self, clocked: Clocked) -> None:
        clocked.unwanted = None
        with self._lock:
            if not self._is_closed:
                self._idle.append(clocked)
                return
        clocked.connection.close()
