"""A document's way to the registry, kept as a Task: its states, and how it moves between them.

https://hl7.org/fhir/R4/task.html

    planned -> queued -> sent -> accepted -> file-requested -> registered | rejected
                 ^        |                                  | no-response
                 +--------+-- a fault that may pass

`businessStatus` is the state. The Task's id follows from the plan, the kind and the period,
so planning twice makes one. Each send has a message id of its own, noted before it goes out:
whatever the registry answers to can be found.
"""

import uuid
from collections.abc import Iterable
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from adapters.national_registry.documents.content import Kind
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

TASK_SYSTEM = "https://pmp.example/fhir/CodeSystem/task"
TASK_CODE = "document-registration"
STATE_SYSTEM = "https://pmp.example/fhir/CodeSystem/registration-state"
FAULT_SYSTEM = "https://pmp.example/fhir/CodeSystem/registry-fault"
MESSAGE_SYSTEM = "https://pmp.example/fhir/NamingSystem/registry-message"

_KIND, _PERIOD = "document-kind", "period"
_REFUSED, _ENTRY = "refused-document", "registry-entry"


class State(StrEnum):
    """Where a document is on its way."""

    PLANNED = "planned"
    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"
    FILE_REQUESTED = "file-requested"
    REGISTERED = "registered"
    REJECTED = "rejected"
    NO_RESPONSE = "no-response"
    CANCELLED = "cancelled"


_STATUS = {
    State.PLANNED: "draft",
    State.QUEUED: "requested",
    State.SENT: "in-progress",
    State.ACCEPTED: "accepted",
    State.FILE_REQUESTED: "in-progress",
    State.REGISTERED: "completed",
    State.REJECTED: "rejected",
    State.NO_RESPONSE: "failed",
    State.CANCELLED: "cancelled",
}

UNDER_WAY = frozenset({State.SENT, State.ACCEPTED, State.FILE_REQUESTED})


def task_key(plan: ResourceKey, kind: Kind, first: date) -> ResourceKey:
    name = f"https://pmp.example/fhir/{plan}?document={kind.value}&from={first.isoformat()}"
    return ResourceKey("Task", str(uuid.uuid5(uuid.NAMESPACE_URL, name)))


def planned(
    plan: ResourceKey,
    subject: str,
    kind: Kind,
    period: tuple[date, date | None],
    due: datetime,
    now: datetime,
) -> Resource:
    """A document that is to be made when it is `due`."""
    first, last = period
    days = {"start": first.isoformat(), **({"end": last.isoformat()} if last else {})}
    task: Resource = {
        "resourceType": "Task",
        "intent": "order",
        "code": {"coding": [{"system": TASK_SYSTEM, "code": TASK_CODE}]},
        "basedOn": [{"reference": str(plan)}],
        "for": {"reference": subject},
        "authoredOn": format_instant(now),
        "input": [
            {"type": {"text": _KIND}, "valueString": kind.value},
            {"type": {"text": _PERIOD}, "valuePeriod": days},
        ],
    }
    return moved(task, State.PLANNED, now, due=due)


def is_registration(resource: Resource) -> bool:
    return resource.get("resourceType") == "Task" and any(
        coding.get("system") == TASK_SYSTEM and coding.get("code") == TASK_CODE
        for coding in (resource.get("code") or {}).get("coding") or ()
    )


def state_of(task: Resource) -> State | None:
    """None for a state that somebody made up."""
    for coding in (task.get("businessStatus") or {}).get("coding") or ():
        if coding.get("system") == STATE_SYSTEM and coding.get("code") in set(State):
            return State(coding["code"])
    return None


def is_to_be_sent(task: Resource) -> bool:
    """Queued, and not waiting for its time."""
    return state_of(task) is State.QUEUED and task.get("status") == "requested"


def kind_of(task: Resource) -> Kind:
    """
    Raises:
        ValueError: somebody altered it.
    """
    return Kind(_input(task, _KIND).get("valueString", ""))


def period_of(task: Resource) -> tuple[date, date | None]:
    """The first and the last day; no last one where the plan has none.

    Raises:
        ValueError: somebody altered it.
    """
    period = _input(task, _PERIOD).get("valuePeriod") or {}
    end = period.get("end")
    return date.fromisoformat(period.get("start", "")), date.fromisoformat(end) if end else None


def due_of(task: Resource) -> datetime | None:
    """When it is to be looked at again; None if somebody altered it."""
    return _instant((task.get("executionPeriod") or {}).get("start"))


def modified_of(task: Resource) -> datetime | None:
    """When its state changed; None if somebody altered it."""
    return _instant(task.get("lastModified"))


def _instant(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def with_period(task: Resource, first: date, last: date | None) -> Resource:
    days = {"start": first.isoformat(), **({"end": last.isoformat()} if last else {})}
    inputs = [
        {**each, "valuePeriod": days} if each["type"].get("text") == _PERIOD else each
        for each in task["input"]
    ]
    return {**task, "input": inputs}


def plan_of(task: Resource) -> ResourceKey:
    resource_type, _, resource_id = task["basedOn"][0]["reference"].partition("/")
    return ResourceKey(resource_type, resource_id)


def document_uid(task: Resource) -> str:
    """The document that is on its way, "" before there is one."""
    reference = str((task.get("focus") or {}).get("reference", ""))
    return reference.removeprefix("DocumentReference/")


def refused_uids(task: Resource) -> tuple[str, ...]:
    """The versions of the document that the registry refused, the first one first."""
    return tuple(
        str(each["valueReference"]["reference"]).removeprefix("DocumentReference/")
        for each in task.get("output") or ()
        if each["type"].get("text") == _REFUSED
    )


def message_ids(task: Resource) -> tuple[str, ...]:
    """Of every send, the newest last."""
    return tuple(
        str(each.get("value", ""))
        for each in task.get("identifier") or ()
        if each.get("system") == MESSAGE_SYSTEM
    )


def fault_of(task: Resource) -> str:
    """The registry's code of what went wrong last, "" if nothing did."""
    for coding in (task.get("statusReason") or {}).get("coding") or ():
        if coding.get("system") == FAULT_SYSTEM:
            return str(coding.get("code", ""))
    return ""


def moved(
    task: Resource,
    state: State,
    now: datetime,
    *,
    due: datetime | None = None,
    reason: tuple[str, str] | None = None,
) -> Resource:
    """The Task in `state`. `reason` is a code and a masked text.

    With `due`, a queued one waits until then.
    """
    changed = {k: v for k, v in task.items() if k not in ("statusReason", "executionPeriod")}
    changed["status"] = _STATUS[state]
    if state is State.QUEUED and due is not None:
        changed["status"] = "on-hold"
    changed["businessStatus"] = {"coding": [{"system": STATE_SYSTEM, "code": state.value}]}
    if due is not None:
        changed["executionPeriod"] = {"start": format_instant(due)}
    if reason is not None:
        code, text = reason
        changed["statusReason"] = {
            "coding": [{"system": FAULT_SYSTEM, "code": code or "unknown"}],
            **({"text": text} if text else {}),
        }
    changed["lastModified"] = format_instant(now)
    return changed


def with_document(task: Resource, uid: str) -> Resource:
    return {**task, "focus": {"reference": f"DocumentReference/{uid}"}}


def with_message(task: Resource, message_id: str) -> Resource:
    added = {"system": MESSAGE_SYSTEM, "value": message_id}
    return {**task, "identifier": [*(task.get("identifier") or ()), added]}


def next_message_id(task_id: str, task: Resource) -> str:
    name = f"https://pmp.example/fhir/Task/{task_id}?message={len(message_ids(task)) + 1}"
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"


def registered(task: Resource, emdr_id: str, at: str, now: datetime) -> Resource:
    """`emdr_id` and `at` are the registry's own; either may be missing."""
    said = [{"type": {"text": _ENTRY}, "valueString": emdr_id}] if emdr_id else []
    if at:
        said.append({"type": {"text": "registered-at"}, "valueString": at})
    return _with_output(moved(task, State.REGISTERED, now), said)


def refused(task: Resource, now: datetime, reason: tuple[str, str]) -> Resource:
    """Rejected for good: when it is queued again, another version of the document is made."""
    changed = moved(task, State.REJECTED, now, reason=reason)
    uid = document_uid(task)
    if not uid:
        return changed
    changed.pop("focus")
    document = {"reference": f"DocumentReference/{uid}"}
    return _with_output(changed, [{"type": {"text": _REFUSED}, "valueReference": document}])


def _with_output(task: Resource, said: Iterable[Resource]) -> Resource:
    output = [*(task.get("output") or ()), *said]
    return {**task, **({"output": output} if output else {})}


def _input(task: Resource, name: str) -> dict[str, Any]:
    for each in task.get("input") or ():
        if (each.get("type") or {}).get("text") == name:
            return dict(each)
    raise ValueError(f"Task.input has no {name}")
