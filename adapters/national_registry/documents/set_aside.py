"""Messages of the registry that could not be acted on: kept whole, as Tasks, with the reason.

The same message twice is one Task. What came late or again needs nobody; the rest waits for
a person.
"""

import base64
import hashlib
import re
from uuid import UUID

from adapters.national_registry.documents import registration
from adapters.national_registry.documents.document import reference_key, task_of
from adapters.national_registry.port import Transaction
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant, next_version

TASK_CODE = "registry-message"
REASON_SYSTEM = "https://pmp.example/fhir/CodeSystem/registry-message-reason"
REPEATED, OVERTAKEN = "repeated", "overtaken"

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")


def is_uuid(text: str) -> bool:
    return _UUID.match(text) is not None


def keep(
    tx: Transaction, raw: bytes, reason: str, about: tuple[ResourceKey, Resource] | None
) -> None:
    """Store the message; `about` is the registration it speaks of, where that is known."""
    digest = hashlib.sha256(raw).digest()
    key = ResourceKey("Task", str(UUID(bytes=digest[:16])))
    current = tx.read(key)
    if current is not None and not current.is_deletion:
        return
    kept: Resource = {
        "resourceType": "Task",
        "status": "completed" if reason in (REPEATED, OVERTAKEN) else "requested",
        "intent": "order",
        "code": {"coding": [{"system": registration.TASK_SYSTEM, "code": TASK_CODE}]},
        "businessStatus": {"coding": [{"system": REASON_SYSTEM, "code": reason}]},
        "authoredOn": format_instant(tx.now),
        "input": [
            {
                "type": {"text": "message"},
                "valueBase64Binary": base64.b64encode(raw).decode("ascii"),
            }
        ],
    }
    if about is not None:
        key_about, task = about
        kept["focus"] = {"reference": str(key_about)}
        if "for" in task:
            kept["for"] = task["for"]
    tx.put(*next_version(current, key, kept, tx.now))


def registration_of(tx: Transaction, uid: str) -> tuple[ResourceKey, Resource] | None:
    """The registration of a document, by the document's UUID."""
    version = tx.read(reference_key(uid.lower()))
    if version is None or version.is_deletion:
        return None
    key = task_of(version.resource())
    found = None if key is None else tx.read(key)
    if key is None or found is None or found.is_deletion:
        return None
    task = found.resource()
    return (key, task) if registration.is_registration(task) else None
