"""What MongoDB's errors mean: try again, unavailable, too costly, or a fault of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)

from fhir_server.errors import FhirError, StoreUnavailable, TooCostly

# QueryExceededMemoryLimitNoDiskUseAllowed, ExceededMemoryLimit, BSONObjectTooLarge (of a
# filter: stored documents are measured before).
_TOO_COSTLY = frozenset({292, 146, 10334})
_AWAY = frozenset(
    {
        # The node is going down, or is no primary (any more).
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        91,  # ShutdownInProgress
        189,  # PrimarySteppedDown
        10107,  # NotWritablePrimary
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        # A node does not reach another.
        6,  # HostUnreachable
        7,  # HostNotFound
        89,  # NetworkTimeout
        9001,  # SocketException
        # The set is not what it should be.
        64,  # WriteConcernFailed
        79,  # UnknownReplWriteConcern: of a node without a configuration yet
        100,  # UnsatisfiableWriteConcern
        134,  # ReadConcernMajorityNotAvailableYet
        246,  # SnapshotUnavailable
        262,  # ExceededTimeLimit
        14031,  # OutOfDiskSpace
        # A read lost its place: the node restarted, or an index came or went.
        43,  # CursorNotFound
        175,  # QueryPlanKilled
        237,  # CursorKilled
    }
)
_DUPLICATE_KEY = frozenset({11000, 11001})


def is_worth_a_rerun(error: PyMongoError) -> bool:
    """Whether the same transaction may succeed if it runs again; this one left nothing."""
    return error.has_error_label("TransientTransactionError") or is_away(error)


def is_away(error: PyMongoError) -> bool:
    """Whether it is about the database's state, not about what was asked."""
    if isinstance(error, ConnectionFailure | ExecutionTimeout):
        return True
    return isinstance(error, OperationFailure) and bool(_codes(error) & _AWAY)


def is_duplicate(error: PyMongoError) -> bool:
    """Whether a unique index refused a document."""
    return isinstance(error, OperationFailure) and bool(_codes(error) & _DUPLICATE_KEY)


def translate(error: PyMongoError, *, may_be_costly: bool = False) -> FhirError | None:
    """`error` in the server's words; None for what can only be a fault of ours.

    `may_be_costly` is of what a client composes, as a search: that it took too long says
    that it asks for too much. Anything else that takes long waits for a database in need.
    """
    if may_be_costly and isinstance(error, ExecutionTimeout):
        return TooCostly("the search looks at too much; name more of what is wanted")
    if isinstance(error, OperationFailure) and error.code in _TOO_COSTLY:
        return TooCostly("the search gathers too much; name more of what is wanted")
    if is_worth_a_rerun(error):
        return StoreUnavailable(f"MongoDB: {type(error).__name__}")
    return None


@contextmanager
def translated(*, may_be_costly: bool = False) -> Iterator[None]:
    """Raise what MongoDB raises in the server's words."""
    try:
        yield
    except PyMongoError as error:
        known = translate(error, may_be_costly=may_be_costly)
        if known is None:
            raise
        raise known from error


def _codes(error: OperationFailure) -> frozenset[int]:
    """Of the command, or of each write in it: the command's own says only that some failed."""
    if not isinstance(error, BulkWriteError):
        return frozenset() if error.code is None else frozenset({error.code})
    failed = (*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ()))
    return frozenset(each["code"] for each in failed)
