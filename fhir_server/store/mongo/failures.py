"""What MongoDB's errors mean: try again, unavailable, too costly, or a fault of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import ConnectionFailure, ExecutionTimeout, OperationFailure, PyMongoError

from fhir_server.errors import FhirError, StoreUnavailable, TooCostly

# QueryExceededMemoryLimitNoDiskUseAllowed, ExceededMemoryLimit, BSONObjectTooLarge (of a
# filter: stored documents are measured before).
_TOO_COSTLY = frozenset({292, 146, 10334})
# Interrupted, InterruptedAtShutdown, InterruptedDueToReplStateChange, NotWritablePrimary,
# NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary, PrimarySteppedDown, ShutdownInProgress,
# WriteConcernFailed, SnapshotUnavailable, OutOfDiskSpace.
_AWAY = frozenset({11601, 11600, 11602, 10107, 13435, 13436, 189, 91, 64, 246, 14031})


def is_worth_a_rerun(error: PyMongoError) -> bool:
    """Whether the same transaction may succeed if it runs again; this one left nothing."""
    return error.has_error_label("TransientTransactionError") or is_away(error)


def is_away(error: PyMongoError) -> bool:
    """Whether it is about the database's state, not about what was asked."""
    if isinstance(error, ConnectionFailure):
        return True
    return isinstance(error, OperationFailure) and error.code in _AWAY


def translate(error: PyMongoError) -> FhirError | None:
    """`error` in the server's words; None for what can only be a fault of ours."""
    if isinstance(error, ExecutionTimeout):
        return TooCostly("the search looks at too much; name more of what is wanted")
    if isinstance(error, OperationFailure) and error.code in _TOO_COSTLY:
        return TooCostly("the search gathers too much; name more of what is wanted")
    if is_worth_a_rerun(error) or error.has_error_label("UnknownTransactionCommitResult"):
        return StoreUnavailable(f"MongoDB: {type(error).__name__}")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise what MongoDB raises in the server's words."""
    try:
        yield
    except PyMongoError as error:
        known = translate(error)
        if known is None:
            raise
        raise known from error
