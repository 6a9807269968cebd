"""How the server moves a Subscription's status: active, error, off; each move is a version.

What a client has asked for meanwhile is never overwritten.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.subscription import Status
from fhir_server.core.version import Version, next_version
from fhir_server.errors import FhirError, StoreUnavailable
from fhir_server.store.protocol import Outbox, Transaction

_log = logging.getLogger(__name__)


def answer_request(outbox: Outbox, request: Version, status: Status, error: str = "") -> None:
    """Say what became of the handshake for `request`, unless something newer is asked.

    Raises:
        StoreUnavailable: it could not be written.
    """

    def is_due(current: Version, _resource: Resource) -> bool:
        return current.version_id == request.version_id

    _move(outbox, request.key, status, error, is_due)


def report_trouble(outbox: Outbox, key: ResourceKey, error: str) -> None:
    """Deliveries fail: from active to error. If it cannot be written, the next failure does."""
    _try_move(outbox, key, Status.ERROR, error, Status.ACTIVE)


def report_recovery(outbox: Outbox, key: ResourceKey) -> None:
    """Deliveries work again: from error to active."""
    _try_move(outbox, key, Status.ACTIVE, "", Status.ERROR)


def give_up(outbox: Outbox, key: ResourceKey, before: datetime) -> None:
    """It has been in error since before that: switched off, and what waits is parked.

    Raises:
        StoreUnavailable: it could not be written.
    """

    def is_due(current: Version, resource: Resource) -> bool:
        return resource.get("status") == Status.ERROR and current.last_updated < before

    _move(outbox, key, Status.OFF, "switched off: its endpoint failed for too long", is_due)


def disown(outbox: Outbox, key: ResourceKey) -> None:
    """Whom it is for is not registered any more: switched off, and what waits is rejected.

    Raises:
        StoreUnavailable: it could not be written.
    """

    def is_due(_current: Version, resource: Resource) -> bool:
        return resource.get("status") != Status.OFF

    _move(outbox, key, Status.OFF, "switched off: its subscriber may not ask any more", is_due)


def switch_off(outbox: Outbox, key: ResourceKey, now: datetime) -> None:
    """The end has come.

    Raises:
        StoreUnavailable: it could not be written.
    """

    def is_due(_current: Version, resource: Resource) -> bool:
        end = resource.get("end")
        return (
            resource.get("status") != Status.OFF
            and isinstance(end, str)
            and datetime.fromisoformat(end) <= now
        )

    _move(outbox, key, Status.OFF, "", is_due)


def _try_move(outbox: Outbox, key: ResourceKey, to: Status, error: str, only_from: Status) -> None:
    def is_due(_current: Version, resource: Resource) -> bool:
        return resource.get("status") == only_from

    try:
        _move(outbox, key, to, error, is_due)
    except StoreUnavailable:
        _log.warning("a Subscription's status was not written", extra={"key": str(key)})


def _move(
    outbox: Outbox,
    key: ResourceKey,
    status: Status,
    error: str,
    is_due: Callable[[Version, Resource], bool],
) -> None:
    def decide(tx: Transaction) -> bool:
        current = tx.read(key)
        if current is None or current.is_deletion:
            return False
        resource = current.resource()
        if not is_due(current, resource):
            return False
        resource["status"] = status.value
        resource.pop("error", None)
        if error:
            resource["error"] = error
        tx.put(*next_version(current, key, resource, tx.now))
        return True

    try:
        moved = outbox.commit(decide)
    except StoreUnavailable:
        raise
    except FhirError as refused:
        _log.error(
            "a Subscription's status was not written",
            extra={"key": str(key), "error": type(refused).__qualname__},
        )
        return
    if moved:
        _log.info("a Subscription is %s", status.value, extra={"key": str(key), "reason": error})
