"""The one thread of a process that writes: decisions that have arrived commit together.

The counter of the commit order is taken first, which fixes the moment that the decisions
read and makes every other group, of any process, wait its turn: so what a decision found
absent is still absent when it commits, and the order has no gap.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from pymongo.errors import PyMongoError
from pymongo.synchronous.client_session import ClientSession

from fhir_server.core.security.audit_chain import NO_KEYS, ChainKeys
from fhir_server.errors import FhirError, StoreUnavailable, VersionConflict
from fhir_server.store.mongo import trail
from fhir_server.store.mongo.definitions import Definitions
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.failures import is_duplicate
from fhir_server.store.mongo.own_groups import OwnGroups
from fhir_server.store.mongo.rows import from_milliseconds, to_milliseconds
from fhir_server.store.mongo.transaction import MongoTransaction
from fhir_server.store.mongo.transactor import Transactor, take_turn
from fhir_server.store.protocol import CommittedGroup

_log = logging.getLogger(__name__)


class GroupLimits(NamedTuple):
    """When a group is committed though more decisions wait.

    `queued` bounds the waiting; `patience` is how long, in seconds, a decision may wait
    for its turn and a group for a database that is away.
    """

    decisions: int = 256
    puts: int = 2_000
    bytes: int = 16 * 1024 * 1024
    queued: int = 2_000
    patience: float = 15.0


class _Job:
    """A decision and whom to tell."""

    __slots__ = ("deadline", "decide", "error", "future", "loop", "result")

    def __init__(
        self,
        decide: Callable[[MongoTransaction], Any],
        deadline: float,
        future: "asyncio.Future[Any] | Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.decide = decide
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


class _MustRunAlone(Exception):
    """`job` failed after its puts were written: they cannot be taken out of the group."""

    def __init__(self, job: _Job) -> None:
        super().__init__()
        self.job = job


class Committer:
    """Runs decisions in groups, each group one transaction."""

    def __init__(
        self,
        connection: Connection,
        transactor: Transactor,
        definitions: Definitions,
        clock: Callable[[], datetime],
        limits: GroupLimits,
        trail_keys: ChainKeys = NO_KEYS,
    ) -> None:
        self._trail_keys = trail_keys
        self._connection = connection
        self._transactor = transactor
        self._definitions = definitions
        self._clock = clock
        self._limits = limits
        self._own = OwnGroups()
        self._observers: tuple[Callable[[CommittedGroup], None], ...] = ()
        self._finished: list[CommittedGroup] = []
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._writer = ThreadPoolExecutor(1, "mongo-writer")
        self._thread = threading.Thread(target=self._work, name="mongo-committer", daemon=True)
        self._thread.start()

    def observe(self, observer: Callable[[CommittedGroup], None]) -> None:
        """Tell `observer` of each group that is committed from now on."""
        self._observers += (observer,)

    async def commit(self, decide: Callable[[MongoTransaction], Any]) -> Any:
        """Run `decide` durably; what it returned or raised.

        Raises:
            StoreUnavailable: the store is away or too busy; nothing was kept.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._submit(decide, future, loop)
        return await future

    def commit_blocking(self, decide: Callable[[MongoTransaction], Any]) -> Any:
        """`commit` for a thread that may wait; never on an event loop."""
        future: Future[Any] = Future()
        self._submit(decide, future, None)
        return future.result()

    def _submit(
        self,
        decide: Callable[[MongoTransaction], Any],
        future: "asyncio.Future[Any] | Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        job = _Job(decide, time.monotonic() + self._limits.patience, future, loop)
        with self._changed:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            if len(self._waiting) >= self._limits.queued:
                raise StoreUnavailable("too many changes are waiting")
            self._waiting.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Do what was accepted, then stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        self._writer.shutdown()

    def _work(self) -> None:
        while jobs := self._take():
            try:
                self._commit_group(jobs)
            except Exception as error:
                # A fault of the store itself: it must not end the only thread that writes.
                _log.exception("a group of changes failed")
                for job in jobs:
                    job.error = job.error or error
            _tell(jobs)
            self._report()

    def _report(self) -> None:
        """Tell those who count, when whoever waited has been told."""
        finished, self._finished = self._finished, []
        for group in finished:
            for observer in self._observers:
                try:
                    observer(group)
                except Exception:  # counting must not end the only thread that writes
                    _log.exception("an observer of commits failed")

    def _take(self) -> list[_Job]:
        """The next group; empty when closed and done."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            count = min(len(self._waiting), self._limits.decisions)
            return [self._waiting.popleft() for _ in range(count)]

    def _commit_group(self, jobs: list[_Job]) -> None:
        """Commit all of `jobs`, in several transactions where they are too many for one."""
        remaining = []
        for job in jobs:
            if time.monotonic() > job.deadline:
                job.error = StoreUnavailable("the change waited too long for its turn")
            elif not job.future.cancelled():
                remaining.append(job)
        while remaining:
            alone: _Job | None = None
            try:
                done = self._transact(remaining)
            except _MustRunAlone as failed:
                alone, done = failed.job, 0
                remaining.remove(alone)
            except StoreUnavailable as error:
                _fail(remaining, error)
                return
            except (FhirError, PyMongoError) as error:
                if len(remaining) == 1:
                    _fail(remaining, _own_fault(error))
                    return
                # One of them asks what cannot be; each alone shows which.
                for job in remaining:
                    self._commit_alone(job)
                return
            del remaining[:done]
            if alone is not None:
                self._commit_alone(alone)

    def _commit_alone(self, job: _Job) -> None:
        try:
            self._transact([job])
        except _MustRunAlone:
            # Its error is its answer already; the transaction went with it.
            return
        except FhirError as error:
            job.error = error
        except PyMongoError as error:
            job.error = _own_fault(error)

    def _transact(self, jobs: list[_Job]) -> int:
        """Commit the first of `jobs`, as many as one transaction takes; how many."""
        begun = time.monotonic()
        self._definitions.keep_texts(self._connection.database)
        decisions, tx = self._transactor.run(
            lambda session: self._decide(session, jobs), self._limits.patience
        )
        if len(tx):
            seconds = time.monotonic() - begun
            self._finished.append(CommittedGroup(decisions, len(tx), seconds))
            self._own.add(tx.committed, tx.sequence, tx.resource_types)
        return decisions

    def _decide(self, session: ClientSession, jobs: list[_Job]) -> tuple[int, MongoTransaction]:
        """Run decisions and write what they put: how many, and all of it."""
        state = self._connection.database["state"]
        before = take_turn(state, "commits", session)
        now = max(to_milliseconds(self._clock()), before["updated"])
        rows = self._definitions.rows_for(before, self._connection.database, session)
        moment = from_milliseconds(now)
        tx = MongoTransaction(session, self._connection, rows, moment, before, self._own)
        done = 0
        try:
            for job in jobs:
                if len(tx) >= self._limits.puts or tx.bytes >= self._limits.bytes:
                    break
                tx.write_ahead(self._writer)
                _run(tx, job)
                done += 1
            if not len(tx) and not tx.records:
                session.abort_transaction()
                return done, tx
            tx.write()
            if tx.records:
                trail.append(self._connection.database, session, tx.records, now, self._trail_keys)
        finally:
            tx.stand_still()
        if len(tx):
            state.update_one(
                {"_id": "commits"},
                {"$set": {"sequence": tx.sequence, "updated": now}},
                session=session,
            )
        return done, tx


def _run(tx: MongoTransaction, job: _Job) -> None:
    """Run one decision; its own errors are its answer, the database's end the group."""
    job.result = job.error = None
    tx.begin()
    try:
        job.result = job.decide(tx)
    except Exception as error:
        job.error = error
    if tx.failure is not None:
        raise tx.failure
    if job.error is not None and not tx.drop():
        raise _MustRunAlone(job)


def _own_fault(error: Exception) -> Exception:
    if isinstance(error, PyMongoError) and is_duplicate(error):
        return VersionConflict("the change collides with what is stored")
    return error


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        job.error = error


def _tell(jobs: list[_Job]) -> None:
    """Wake whoever waits, each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        if job.loop is None:
            job.tell()
            continue
        by_loop.setdefault(job.loop, []).append(job)
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_tell_all, told)
        except RuntimeError:
            _log.warning("%d changes were committed after their event loop closed", len(told))


def _tell_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.tell()
