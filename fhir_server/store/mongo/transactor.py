"""Transactions that run until they are through, and never hang on a process that died.

A transaction of MongoDB outlives the process that began it: up to a minute its writes
block every other. So each process registers its database sessions and shows life every
second; whoever waits too long ends the sessions that stopped.
https://www.mongodb.com/docs/manual/core/transactions/
"""

import logging
import threading
import time
from collections.abc import Callable
from secrets import SystemRandom
from typing import TypeVar

from bson.binary import Binary
from pymongo import ReadPreference, ReturnDocument
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.collection import Collection

from fhir_server.errors import StoreUnavailable
from fhir_server.store.mongo import failures
from fhir_server.store.mongo.documents import SCHEMA_VERSION, Connection
from fhir_server.store.mongo.steps import DURABLE, Document

R = TypeVar("R")

_log = logging.getLogger(__name__)

_BEAT = 1.0
_DEAD_AFTER = 3_000
_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_AWAY = 0.0005, 0.02, 0.25
_GRACE = 10.0
_BLOCKED_AFTER = 1.0
_WRITE_CONFLICT = 112


class OutOfDate(Exception):
    """What the transaction needs is newer than its moment."""


class Transactor:
    """Runs transactions on one database; safe from any thread, a session for each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._registry = connection.database["sessions"]
        self._local = threading.local()
        # One from the start: a process that only reads is to be known as well.
        self._sessions = [connection.client.start_session()]
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._pulse = threading.Thread(target=self._show_life, name="mongo-pulse", daemon=True)
        self._pulse.start()
        self._jitter = SystemRandom().uniform

    def run(self, body: Callable[[ClientSession], R], patience: float) -> R:
        """Run `body` in a transaction until it is committed, for `patience` seconds.

        `body` may run many times. One that ends the transaction itself commits nothing.
        All it reads is of one moment; it must write a document that every rival writes
        too, or what it read may have changed when it commits.

        Raises:
            StoreUnavailable: patience ended. Nothing was kept, unless the network fell
                silent in the commit itself.
            PyMongoError: a fault of `body`.
        """
        started = time.monotonic()
        until = started + patience
        wait = _FIRST_WAIT
        unblocked = started
        while True:
            try:
                return self._attempt(body, until)
            except OutOfDate:
                longest = _LONGEST_WAIT
            except PyMongoError as error:
                now = time.monotonic()
                if not failures.is_worth_a_rerun(error):
                    known = failures.translate(error)
                    if known is None:
                        raise
                    raise known from error
                if now > until:
                    raise StoreUnavailable(f"MongoDB: {type(error).__name__}") from error
                if now - unblocked > _BLOCKED_AFTER and _is_conflict(error):
                    unblocked = now
                    self._end_dead_sessions()
                longest = _LONGEST_WAIT if _is_conflict(error) else _LONGEST_AWAY
            time.sleep(self._jitter(wait / 2, wait))
            wait = min(wait * 1.5, longest)

    def close(self) -> None:
        self._closing.set()
        self._pulse.join()
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.end_session()

    def _attempt(self, body: Callable[[ClientSession], R], until: float) -> R:
        session = self._session()
        session.start_transaction(
            read_concern=ReadConcern("snapshot"),
            write_concern=DURABLE,
            read_preference=ReadPreference.PRIMARY,
            max_commit_time_ms=10_000,
        )
        try:
            answer = body(session)
        except BaseException:
            session.abort_transaction()
            raise
        if session.in_transaction:
            self._commit(session, until)
        return answer

    def _commit(self, session: ClientSession, until: float) -> None:
        while True:
            try:
                session.commit_transaction()
                return
            except (ConnectionFailure, OperationFailure) as error:
                # Only this label says that nothing of it is left. Whatever else comes back
                # may come after the commit, even an error that would be plain elsewhere:
                # an interruption while the majority was waited for.
                if error.has_error_label("TransientTransactionError"):
                    raise
                # The same commit may be asked for again: it happens once. Left open, it
                # could still happen after the caller was told that it did not.
                if time.monotonic() > until + _GRACE:
                    raise StoreUnavailable(
                        f"MongoDB does not say whether the commit happened: {type(error).__name__}"
                    ) from error
                time.sleep(_LONGEST_WAIT)

    def _session(self) -> ClientSession:
        session: ClientSession | None = getattr(self._local, "session", None)
        if session is None or session.has_ended:
            session = self._connection.client.start_session()
            try:
                self._beat([session])
            except PyMongoError:
                session.end_session()
                raise
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session

    def _show_life(self) -> None:
        while not self._closing.wait(_BEAT):
            with self._lock:
                sessions = list(self._sessions)
            try:
                self._beat(sessions)
            except PyMongoError:
                # The database is away, and so is everyone who could mistake us for dead.
                continue
        with self._lock:
            sessions = list(self._sessions)
        try:
            self._registry.delete_many({"_id": {"$in": [_id_of(s) for s in sessions]}})
        except PyMongoError:
            # They have no transaction open; the registry forgets them by itself.
            return

    def _beat(self, sessions: list[ClientSession]) -> None:
        life = {"$currentDate": {"at": True}, "$set": {"schema": SCHEMA_VERSION}}
        for session in sessions:
            self._registry.update_one({"_id": _id_of(session)}, life, upsert=True)

    def _end_dead_sessions(self) -> None:
        age = {"$subtract": ["$$NOW", "$at"]}
        filter_ = {"$expr": {"$gt": [age, _DEAD_AFTER]}}
        try:
            dead = [found["_id"] for found in self._registry.find(filter_, {"_id": 1})]
            if dead:
                ids = [{"id": Binary.from_uuid(session_id)} for session_id in dead]
                self._connection.client.admin.command("killSessions", ids)
                self._registry.delete_many({"_id": {"$in": dead}})
                _log.warning("ended %d transactions of processes that are gone", len(dead))
        except PyMongoError as error:
            # Whatever is wrong, the next attempt of the transaction meets it too.
            _log.warning("dead sessions could not be ended: %s", type(error).__name__)


def take_turn(state: Collection[Document], name: str, session: ClientSession) -> Document:
    """The counter `name`, held until the transaction ends.

    Whoever else takes it meanwhile, or took it since this transaction's moment, makes one
    of the two run again: all that hold it run one after the other.
    """
    found = state.find_one_and_update(
        {"_id": name},
        {"$inc": {"turns": 1}},
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    if found is None:
        raise StoreUnavailable(f"the store has no counter {name}: it was not set up")
    return found


def _id_of(session: ClientSession) -> object:
    return session.session_id["id"]


def _is_conflict(error: PyMongoError) -> bool:
    return getattr(error, "code", None) == _WRITE_CONFLICT
