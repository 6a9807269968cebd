"""What becomes of a registration: each a decision over the Task as it is when it commits.

The registry's callback, its immediate answer and our own clock meet here in any order, in
several processes: a state only moves forward, and what does not fit is set aside.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from adapters.national_registry.documents import registration, set_aside
from adapters.national_registry.documents.faults import (
    LONGEST_WAIT,
    Again,
    Fault,
    RegistryError,
    worst,
)
from adapters.national_registry.documents.masking import masked
from adapters.national_registry.documents.registration import UNDER_WAY, State
from adapters.national_registry.documents.result import Result
from adapters.national_registry.port import Transaction
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import next_version


class Sending(NamedTuple):
    """Leave to send a document under `message_id`."""

    uid: str
    message_id: str


def task_at(tx: Transaction, key: ResourceKey) -> Resource | None:
    """The Task as it is, None if it is no registration any more."""
    version = tx.read(key)
    if version is None or version.is_deletion:
        return None
    task = version.resource()
    return task if registration.is_registration(task) else None


def put(tx: Transaction, key: ResourceKey, resource: Resource) -> None:
    tx.put(*next_version(tx.read(key), key, resource, tx.now))


def keep_document(
    tx: Transaction, key: ResourceKey, uid: str, made: dict[ResourceKey, Resource]
) -> str:
    """Store a document that was made, unless another process was quicker; which one counts."""
    task = task_at(tx, key)
    if task is None:
        return ""
    if registration.document_uid(task):
        return registration.document_uid(task)
    for part, resource in made.items():
        put(tx, part, resource)
    # In hand, so that this version of the Task is no second delivery.
    put(tx, key, {**registration.with_document(task, uid), "status": "received"})
    return uid


def begin_sending(tx: Transaction, key: ResourceKey) -> Sending | None:
    """Note the message before it goes out; None if the registry has spoken meanwhile."""
    task = task_at(tx, key)
    if task is None or registration.state_of(task) not in (State.QUEUED, State.SENT):
        return None
    uid = registration.document_uid(task)
    if not uid:
        return None
    message_id = registration.next_message_id(key.resource_id, task)
    sent = registration.moved(task, State.SENT, tx.now)
    put(tx, key, registration.with_message(sent, message_id))
    return Sending(uid, message_id)


def note_accepted(tx: Transaction, key: ResourceKey) -> None:
    """Taken for its full check; the callback may have been quicker."""
    task = task_at(tx, key)
    if task is not None and registration.state_of(task) in (State.QUEUED, State.SENT):
        put(tx, key, registration.moved(task, State.ACCEPTED, tx.now))


def note_passing_fault(tx: Transaction, key: ResourceKey, fault: Fault, text: str) -> None:
    """Refused for now: it stays sent, with the reason, until the next attempt."""
    task = task_at(tx, key)
    if task is not None and registration.state_of(task) is State.SENT:
        reason = (fault.code, text)
        put(tx, key, registration.moved(task, State.SENT, tx.now, reason=reason))


def note_refused(tx: Transaction, key: ResourceKey, code: str, text: str) -> None:
    task = task_at(tx, key)
    if task is not None and registration.state_of(task) is not State.REGISTERED:
        put(tx, key, registration.refused(task, tx.now, (code, text)))


def note_registered(tx: Transaction, key: ResourceKey, emdr_id: str, at: str) -> None:
    task = task_at(tx, key)
    if task is not None and registration.state_of(task) is not State.REGISTERED:
        put(tx, key, registration.registered(task, emdr_id, at, tx.now))


def note_silence(tx: Transaction, key: ResourceKey, since: datetime) -> None:
    """No answer came: a person has to ask. One that came meanwhile counts."""
    task = task_at(tx, key)
    if task is None or registration.state_of(task) not in UNDER_WAY:
        return
    modified = registration.modified_of(task)
    if modified is None or modified <= since:
        reason = ("NO_RESPONSE", "")
        put(tx, key, registration.moved(task, State.NO_RESPONSE, tx.now, reason=reason))


def note_file_requested(tx: Transaction, key: ResourceKey) -> None:
    task = task_at(tx, key)
    if task is not None and registration.state_of(task) in (State.SENT, State.ACCEPTED):
        put(tx, key, registration.moved(task, State.FILE_REQUESTED, tx.now))


def take_result(
    tx: Transaction, result: Result, raw: bytes, longest_wait: float = LONGEST_WAIT
) -> State | None:
    """What the callback does to its registration; None if it was set aside."""
    found = _find(tx, result)
    reason = result.fault or ("" if found else "unknown-document")
    if not reason and found is not None:
        key, task = found
        changed = _answered(task, result, tx.now, longest_wait)
        if isinstance(changed, dict):
            put(tx, key, changed)
            return registration.state_of(changed)
        reason = changed
    set_aside.keep(tx, raw, reason, found)
    return None


def _answered(task: Resource, result: Result, now: datetime, longest_wait: float) -> Resource | str:
    """The Task after an answer, or why it cannot be acted on."""
    state = registration.state_of(task)
    if result.is_success:
        if state is State.REGISTERED:
            return set_aside.REPEATED
        return registration.registered(task, result.emdr_id, result.registered_at, now)
    if state is State.REGISTERED:
        return "error-after-success"
    if state not in UNDER_WAY and state is not State.NO_RESPONSE:
        return set_aside.OVERTAKEN
    sent = registration.message_ids(task)
    if result.relates_to and sent and not _is_same(result.relates_to, sent[-1]):
        return set_aside.OVERTAKEN
    fault = worst(result.errors)
    reason = (fault.code, describe(result.errors))
    if fault.again is Again.NEVER:
        return registration.refused(task, now, reason)
    due = now + timedelta(seconds=min(fault.delay, longest_wait))
    return registration.moved(task, State.QUEUED, now, due=due, reason=reason)


def describe(errors: Iterable[RegistryError]) -> str:
    """Codes with their owners and what can be told of the texts."""
    parts = []
    for error in list(errors)[:5]:
        fault = worst([error])
        text = masked(error.message)
        parts.append(f"{fault.code} ({fault.kind}, {fault.owner})" + (f": {text}" if text else ""))
    return "; ".join(parts)[:1_000]


def _find(tx: Transaction, result: Result) -> tuple[ResourceKey, Resource] | None:
    """By the message it answers, else by the document it names."""
    if result.relates_to:
        bare = result.relates_to.removeprefix("urn:uuid:")
        wanted = [(registration.MESSAGE_SYSTEM, text) for text in (f"urn:uuid:{bare}", bare)]
        for keys in tx.find("Task", wanted).values():
            for key in keys:
                if (task := task_at(tx, key)) is not None:
                    return key, task
    if set_aside.is_uuid(result.local_uid):
        return set_aside.registration_of(tx, result.local_uid)
    return None


def _is_same(one: str, other: str) -> bool:
    return one.removeprefix("urn:uuid:") == other.removeprefix("urn:uuid:")
