"""The one thread that writes: takes the decisions that have arrived, commits them together.

Each decision succeeds or fails alone. Its answer is given when all that it may have seen
is durable.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from fhir_server.errors import StoreUnavailable
from fhir_server.store.protocol import CommittedGroup
from fhir_server.store.sqlite.connection import unavailable
from fhir_server.store.sqlite.transaction import Group, GroupSpoiled, Shared, SqliteTransaction

T = TypeVar("T")

_log = logging.getLogger(__name__)


class GroupLimits(NamedTuple):
    """When a group is committed though more decisions wait. `queued` bounds the waiting."""

    decisions: int = 256
    puts: int = 2_000
    seconds: float = 0.2
    queued: int = 2_000
    wait_seconds: float = 20.0


class Work(Protocol):
    """Something to be done in a group; it may be done again if the group fails."""

    def __call__(self, group: Group) -> Any: ...


class _Job:
    """A piece of work and whom to tell."""

    __slots__ = ("deadline", "error", "future", "loop", "result", "work")

    def __init__(
        self,
        work: Work,
        deadline: float,
        future: "asyncio.Future[Any] | Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.work = work
        self.deadline = deadline
        self.future = future
        self.loop = loop
        self.result: Any = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        """On the thread that waits; a request that was cancelled is not told."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


def decision(decide: Callable[[SqliteTransaction], T]) -> Work:
    """A decision as work."""

    def work(group: Group) -> T:
        tx = SqliteTransaction(group)
        try:
            result = decide(tx)
            tx.finish()
        except BaseException:
            tx.abandon()
            raise
        return result

    return work


def statement(execute: Callable[[sqlite3.Connection], T]) -> Work:
    """Plain SQL of the store's own as work: it sees what is flushed, and is undone alone."""

    def work(group: Group) -> T:
        connection = group.connection
        connection.execute("SAVEPOINT work")
        try:
            result = execute(connection)
        except BaseException:
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
            raise
        connection.execute("RELEASE work")
        group.note_writing()
        return result

    return work


def upkeep(execute: Callable[[Group], T]) -> Work:
    """Work on the store itself, which sees all that was accepted before, written."""

    def work(group: Group) -> T:
        try:
            group.flush()
        except Exception as error:
            group.spoiled_by = error
            raise GroupSpoiled from error
        generation = group.generation

        def run(connection: sqlite3.Connection) -> T:
            try:
                return execute(group)
            except BaseException:
                group.generation = generation
                group.forget()
                raise

        result: T = statement(run)(group)
        return result

    return work


class Committer:
    """Runs work in groups on its own connection and thread."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        shared: Shared,
        clock: Callable[[], datetime],
        limits: GroupLimits,
        committed: Callable[[sqlite3.Connection, int], None],
    ) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = connect()
        self._shared = shared
        self._clock = clock
        self._limits = limits
        self._committed = committed
        self._observers: tuple[Callable[[CommittedGroup], None], ...] = ()
        self._finished: list[CommittedGroup] = []
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reported = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sqlite-committer", daemon=True)
        self._thread.start()

    def observe(self, observer: Callable[[CommittedGroup], None]) -> None:
        """Tell `observer` of each group that is committed from now on."""
        self._observers += (observer,)

    async def commit(self, work: Work) -> Any:
        """Do `work` durably; what it returned or raised.

        Raises:
            StoreUnavailable: the store is away or too busy; nothing was kept.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._submit(work, future, loop)
        return await future

    def commit_blocking(self, work: Work) -> Any:
        """`commit` for a thread that may wait; never on an event loop."""
        future: Future[Any] = Future()
        self._submit(work, future, None)
        return future.result()

    def close(self) -> None:
        """Do what was accepted, then stop."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._jobs.put(None)
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def _submit(
        self,
        work: Work,
        future: "asyncio.Future[Any] | Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        deadline = time.monotonic() + self._limits.wait_seconds
        # Under the lock, so that nothing is queued behind the end.
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            if self._jobs.qsize() >= self._limits.queued:
                raise StoreUnavailable("too many changes are waiting")
            self._jobs.put(_Job(work, deadline, future, loop))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [job]
            try:
                self._commit_group(jobs)
            except Exception as error:
                # A fault of the store itself: it must not end the only thread that writes.
                _log.exception("a group of changes failed")
                self._roll_back()
                for failed in jobs:
                    failed.error = error
            _tell(jobs)
            self._report()

    def _commit_group(self, jobs: list[_Job]) -> None:
        """Commit the first job and those that arrive meanwhile."""
        try:
            group = self._begin()
        except (sqlite3.Error, StoreUnavailable) as error:
            # Whoever waits behind would wait as long for the same answer.
            while self._take(jobs):
                pass
            self._fail(jobs, error)
            return
        until = time.monotonic() + self._limits.seconds
        try:
            _do(group, jobs[0])
            while (
                len(jobs) < self._limits.decisions
                and len(group.overlay.waiting) < self._limits.puts
                and group.spoiled_by is None
                and time.monotonic() < until
                and self._take(jobs)
            ):
                _do(group, jobs[-1])
            self._finish(group, len(jobs))
        except Exception as error:
            if _is_outage(error):
                self._fail(jobs, error)
            elif len(jobs) == 1:
                self._roll_back()
                jobs[0].error = error
            else:
                self._roll_back()
                for job in jobs:
                    self._commit_alone(job)

    def _commit_alone(self, job: _Job) -> None:
        """Run `job` again in a transaction of its own: what fails now is its own fault."""
        job.result = job.error = None
        try:
            group = self._begin()
            _do(group, job)
            self._finish(group, 1)
        except Exception as error:
            if _is_outage(error):
                self._fail([job], error)
            else:
                self._roll_back()
                job.error = error

    def _take(self, jobs: list[_Job]) -> bool:
        """Add the next job that waits; whether there was one."""
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return False
        if job is None:
            # The end is for `_run` to see, when this group is done.
            self._jobs.put(None)
            return False
        jobs.append(job)
        return True

    def _begin(self) -> Group:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.execute("BEGIN IMMEDIATE")
        return Group(self._connection, self._shared, self._clock())

    def _finish(self, group: Group, decisions: int) -> None:
        if group.spoiled_by is not None:
            raise group.spoiled_by
        group.flush()
        group.connection.execute("COMMIT" if group.has_writes else "ROLLBACK")
        group.names.commit()
        if group.has_writes:
            seconds = time.monotonic() - group.begun
            self._finished.append(CommittedGroup(decisions, group.sequence - group.before, seconds))

    def _report(self) -> None:
        """Say how many rows have changed, when whoever waited has been told."""
        connection = self._connection
        if connection is not None:
            total = connection.total_changes
            self._committed(connection, max(0, total - self._reported))
            self._reported = total
        finished, self._finished = self._finished, []
        for group in finished:
            for observer in self._observers:
                try:
                    observer(group)
                except Exception:  # counting must not end the only thread that writes
                    _log.exception("an observer of commits failed")

    def _roll_back(self) -> None:
        """Back to no transaction; by way of a new connection if this one cannot."""
        if self._connection is None:
            return
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection.close()
            self._connection = None

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        self._roll_back()
        told = error if isinstance(error, StoreUnavailable) else unavailable(error)
        _log.warning("%d changes were not kept: %s", len(jobs), told)
        for job in jobs:
            job.error = told


def _do(group: Group, job: _Job) -> None:
    """Run one piece of work; its own errors are its answer."""
    if time.monotonic() > job.deadline:
        job.error = StoreUnavailable("the change waited too long for its turn")
        return
    try:
        job.result = job.work(group)
    except GroupSpoiled:
        # What it raised says nothing about this decision: all of them run again.
        return
    except Exception as error:
        if isinstance(error, sqlite3.IntegrityError):
            group.spoiled_by = error
        elif _is_outage(error):
            raise
        else:
            job.error = error


def _is_outage(error: Exception) -> bool:
    """Whether the file failed, and not what was asked of it."""
    return isinstance(error, sqlite3.Error) and not isinstance(
        error, sqlite3.IntegrityError | sqlite3.ProgrammingError
    )


def _tell(jobs: list[_Job]) -> None:
    """Wake whoever waits, each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        if job.loop is None:
            job.tell()
        else:
            by_loop.setdefault(job.loop, []).append(job)
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_tell_all, told)
        except RuntimeError:
            _log.warning("%d changes were committed after their event loop closed", len(told))


def _tell_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.tell()
