"""Quarantine: what could not be decided, kept as a FHIR Task until it can be.

https://hl7.org/fhir/R4/task.html

The Task holds all that the decision needs to be taken again: the payload as it came,
the mapping, what the gateway knew and when it came. Its identifier is made of these, so
the same undecidable payload sent twice is one Task.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import Fault, Gateway, IdentifierToken
from fhir_server.core.monitoring.assignment import local_key
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

TASK_SYSTEM = "https://pmp.example/fhir/CodeSystem/task"
TASK_CODE = "quarantined-reading"
REASON_SYSTEM = "https://pmp.example/fhir/CodeSystem/quarantine-reason"
INPUT_SYSTEM = "https://pmp.example/fhir/CodeSystem/quarantine-input"
OUTPUT_SYSTEM = "https://pmp.example/fhir/CodeSystem/quarantine-output"
IDENTIFIER_SYSTEM = "https://pmp.example/fhir/NamingSystem/quarantine"

# What a person may set while working on it; in any other state the Task is closed.
OPEN_STATUSES = ("requested", "received", "accepted", "ready", "in-progress", "on-hold")

# A longer payload is one Binary that all its Tasks share: a page of a hundred readings of
# an unknown device must not be kept a hundred times.
LONGEST_INLINE = 4_096

# What a FHIR string may not hold: controls, and blanks beyond the four it knows.
_NO_STRING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|[^\S \r\n\t]")


class HeldBack(NamedTuple):
    """One outcome of a payload that is kept: `ordinal` is its place among them.

    `payload` is the bytes as they came, or the Binary that holds them.
    """

    mapping: str
    payload: bytes | ResourceKey
    ordinal: int
    gateway: Gateway


class About(NamedTuple):
    """What is known of the reading although it could not be stored."""

    device: IdentifierToken | None = None
    patient: ResourceKey | None = None
    observation: ResourceKey | None = None


NOTHING_KNOWN = About()


def payload_digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


def task_identifier(mapping: str, digest: bytes, ordinal: int, gateway: Gateway) -> tuple[str, str]:
    """System and value that name the Task of one outcome of one payload of one gateway.

    When it was sent and received is left out: a repeat differs in nothing else.
    """
    named = (*(gateway.device or ("", "")), *(gateway.patient or ("", "")), gateway.gateway_id)
    identity = hashlib.sha256(digest)
    for part in (mapping, str(ordinal), *named):
        text = b"-" if part is None else b"=" + part.encode()
        identity.update(len(text).to_bytes(4, "big") + text)
    return IDENTIFIER_SYSTEM, identity.hexdigest()


def payload_binary(raw: bytes) -> tuple[ResourceKey, Resource]:
    """The Binary that keeps a long payload; its id is the payload's digest."""
    key = ResourceKey("Binary", hashlib.sha256(raw).hexdigest())
    binary = {
        "resourceType": "Binary",
        "contentType": "application/octet-stream",
        "data": base64.b64encode(raw).decode("ascii"),
    }
    return key, binary


def parse_payload_binary(binary: Resource) -> bytes:
    """The payload that `payload_binary` keeps; empty if it was altered beyond reading."""
    try:
        return base64.b64decode(binary.get("data", ""), validate=True)
    except ValueError:
        return b""


def quarantine_task(
    held: HeldBack, fault: Fault, about: About, identifier: tuple[str, str], now: datetime
) -> Resource:
    """A Task that asks a person to mend the cause."""
    system, value = identifier
    task: Resource = {
        "resourceType": "Task",
        "identifier": [{"system": system, "value": value}],
        "status": "requested",
        "statusReason": _status_reason(fault),
        "businessStatus": _reason(fault),
        "intent": "order",
        "code": _concept(TASK_SYSTEM, TASK_CODE),
    }
    if about.observation is not None:
        task["focus"] = {"reference": str(about.observation)}
    if about.patient is not None:
        task["for"] = {"reference": str(about.patient)}
    received = held.gateway.received
    task["authoredOn"] = _format(received)
    modified = format_instant(now)
    # The moment of a commit has whole milliseconds: it may seem to be before what it commits.
    is_before = datetime.fromisoformat(modified) < received
    task["lastModified"] = _format(received) if is_before else modified
    # What a payload calls a device may be no text that FHIR can hold.
    if about.device is not None and _is_clean(about.device):
        task["requester"] = {"type": "Device", "identifier": _identifier(about.device)}
    task["input"] = list(_inputs(held))
    return task


def withdrawn_identifier(observation: ResourceKey) -> tuple[str, str]:
    """System and value that name the Task of a stored reading that is nobody's."""
    return IDENTIFIER_SYSTEM, f"withdrawn-{observation.resource_id}"


def withdrawn_task(
    observation: ResourceKey, fault: Fault, device: IdentifierToken | None, now: datetime
) -> Resource:
    """A Task for a reading that was stored and lost its place; what it measured is kept there."""
    system, value = withdrawn_identifier(observation)
    task: Resource = {
        "resourceType": "Task",
        "identifier": [{"system": system, "value": value}],
        "status": "requested",
        "statusReason": _status_reason(fault),
        "businessStatus": _reason(fault),
        "intent": "order",
        "code": _concept(TASK_SYSTEM, TASK_CODE),
        "focus": {"reference": str(observation)},
        "authoredOn": format_instant(now),
        "lastModified": format_instant(now),
        "input": [_input("observation", "valueReference", {"reference": str(observation)})],
    }
    if device is not None and _is_clean(device):
        task["requester"] = {"type": "Device", "identifier": _identifier(device)}
    return task


def is_of_stored_reading(task: Resource) -> bool:
    """Whether what waits is an Observation that was withdrawn, and no payload."""
    return "observation" in _input_values(task)


def is_open(task: Resource) -> bool:
    """Whether the Task still waits to be decided."""
    return task.get("status") in OPEN_STATUSES


def is_reason(task: Resource, fault: Fault) -> bool:
    """Whether `task` is open for this very reason."""
    return is_open(task) and task.get("statusReason") == _status_reason(fault)


def with_reason(task: Resource, fault: Fault, about: About, now: datetime) -> Resource:
    """The Task open for another reason than before, or open again."""
    changed = {
        **task,
        "status": task["status"] if is_open(task) else "requested",
        "statusReason": _status_reason(fault),
        "businessStatus": _reason(fault),
        "lastModified": format_instant(now),
    }
    changed.pop("output", None)
    if about.observation is not None:
        changed["focus"] = {"reference": str(about.observation)}
    if about.patient is not None:
        changed["for"] = {"reference": str(about.patient)}
    return changed


def completed(task: Resource, outputs: Sequence[str], now: datetime) -> Resource:
    """The Task done; `outputs` are the Observations it became, none if it was no measurement."""
    done = {**task, "status": "completed", "lastModified": format_instant(now)}
    done.pop("statusReason", None)
    done.pop("businessStatus", None)
    if outputs:
        done["output"] = [
            {
                "type": _concept(OUTPUT_SYSTEM, "observation"),
                "valueReference": {"reference": reference},
            }
            for reference in outputs
        ]
    return done


def is_quarantined_reading(task: Resource) -> bool:
    codings = (task.get("code") or {}).get("coding", ())
    return any((c.get("system"), c.get("code")) == (TASK_SYSTEM, TASK_CODE) for c in codings)


def parse_held_back(task: Resource) -> HeldBack:
    """What a quarantine Task keeps.

    Raises:
        ValueError: it is none, or a part of it is gone.
    """
    values = _input_values(task)
    try:
        gateway = Gateway(
            received=datetime.fromisoformat(values["received"]),
            device=_token(values.get("gateway-device")),
            patient=_token(values.get("gateway-patient")),
            sent=datetime.fromisoformat(values["gateway-sent"])
            if "gateway-sent" in values
            else None,
            gateway_id=values.get("gateway-id", ""),
        )
        return HeldBack(values["mapping"], _payload(values), int(values["reading"]), gateway)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the Task lacks an input: {error}") from None


def reason_of(task: Resource) -> tuple[str, str]:
    """The reason's code and its detail, both "" for a Task that is done."""
    status_reason = task.get("statusReason") or {}
    for coding in status_reason.get("coding", ()):
        if coding.get("system") == REASON_SYSTEM:
            return coding.get("code", ""), status_reason.get("text", "")
    return "", ""


def _inputs(held: HeldBack) -> Iterator[Resource]:
    gateway = held.gateway
    if isinstance(held.payload, ResourceKey):
        yield _input("payload", "valueReference", {"reference": str(held.payload)})
    elif (text := _as_string(held.payload)) is not None:
        yield _input("payload", "valueString", text)
    else:
        encoded = base64.b64encode(held.payload).decode("ascii")
        yield _input("payload", "valueBase64Binary", encoded)
    yield _input("mapping", "valueString", held.mapping)
    yield _input("reading", "valueUnsignedInt", held.ordinal)
    yield _input("received", "valueInstant", _format(gateway.received))
    if gateway.device is not None:
        yield _input("gateway-device", "valueIdentifier", _identifier(gateway.device))
    if gateway.patient is not None:
        yield _input("gateway-patient", "valueIdentifier", _identifier(gateway.patient))
    if gateway.sent is not None:
        yield _input("gateway-sent", "valueInstant", _format(gateway.sent))
    if gateway.gateway_id:
        yield _input("gateway-id", "valueString", gateway.gateway_id)


def _input(code: str, name: str, value: Any) -> Resource:
    return {"type": _concept(INPUT_SYSTEM, code), name: value}


def _input_values(task: Resource) -> dict[str, Any]:
    """The value of each input by its code; the payload's with its kind before it."""
    values: dict[str, Any] = {}
    for part in task.get("input", ()):
        for coding in part["type"].get("coding", ()):
            if coding.get("system") == INPUT_SYSTEM:
                name, value = next((n, v) for n, v in part.items() if n.startswith("value"))
                values[coding["code"]] = (name, value) if coding["code"] == "payload" else value
    return values


def _payload(values: Mapping[str, Any]) -> bytes | ResourceKey:
    name, value = values["payload"]
    if name == "valueString":
        return str(value).encode()
    if name == "valueBase64Binary":
        return base64.b64decode(value)
    key = local_key(value, "Binary")
    if key is None:
        raise ValueError("the Task's payload is no Binary of this server")
    return key


def _as_string(raw: bytes) -> str | None:
    """`raw` as a FHIR string, if that gives the same bytes back."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    # Blanks around it are allowed, but whoever handles the Task may trim them.
    return text if text and text == text.strip() and not _NO_STRING.search(text) else None


def _is_clean(token: IdentifierToken) -> bool:
    return token.value.isprintable() and (token.system or "urn:x").isprintable()


def _format(when: datetime) -> str:
    """The instant with all its digits and its own offset."""
    return when.isoformat()


def _identifier(token: IdentifierToken) -> dict[str, str]:
    value = {"value": token.value}
    return value if token.system is None else {"system": token.system, **value}


def _token(identifier: Mapping[str, Any] | None) -> IdentifierToken | None:
    if identifier is None:
        return None
    return IdentifierToken(identifier.get("system"), identifier["value"])


def _concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def _reason(fault: Fault) -> Resource:
    return _concept(REASON_SYSTEM, str(fault.reason))


def _status_reason(fault: Fault) -> Resource:
    reason = _reason(fault)
    return {**reason, "text": fault.detail} if fault.detail else reason
