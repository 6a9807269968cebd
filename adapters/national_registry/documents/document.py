"""The document as it is kept: a DocumentReference, its file and its signatures as Binary.

https://hl7.org/fhir/R4/documentreference.html

The bytes that were signed are stored, not what they were made of: whatever the registry
fetches, and however often, is the same.
"""

import base64
import hashlib
import uuid
from collections.abc import Callable
from typing import NamedTuple

from adapters.national_registry.documents.cda import DOCUMENT_KINDS
from adapters.national_registry.documents.content import Content
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

TAG_SYSTEM = "https://pmp.example/fhir/CodeSystem/document-part"
FILE, DOCTOR, ORGANIZATION = "file", "doctor-signature", "organization-signature"
REQUEST = "request"
_MEDIA_TYPES = {
    FILE: "application/xml",
    DOCTOR: "application/pkcs7-signature",
    ORGANIZATION: "application/pkcs7-signature",
    REQUEST: "application/xml",
}


class SignedFile(NamedTuple):
    """What the registry fetches; `request` is what it was told of it."""

    file: bytes
    doctor: bytes
    organization: bytes
    request: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.file).hexdigest()


def version_uid(task: ResourceKey, number: int) -> str:
    """The UUID of a version of a document: the same however often it is composed."""
    name = f"https://pmp.example/fhir/{task}?version={number}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def reference_key(uid: str) -> ResourceKey:
    return ResourceKey("DocumentReference", uid)


def part_key(uid: str, part: str) -> ResourceKey:
    return ResourceKey("Binary", f"{uid}.{part}")


def part_keys(uid: str) -> tuple[ResourceKey, ...]:
    return tuple(part_key(uid, part) for part in (FILE, DOCTOR, ORGANIZATION, REQUEST))


def resources(
    content: Content, signed: SignedFile, subject: str, task: ResourceKey
) -> dict[ResourceKey, Resource]:
    """Everything that is stored of a document, by key."""
    uid = content.local_uid
    parts = {
        FILE: signed.file,
        DOCTOR: signed.doctor,
        ORGANIZATION: signed.organization,
        REQUEST: signed.request,
    }
    made: dict[ResourceKey, Resource] = {
        part_key(uid, part): {
            "resourceType": "Binary",
            "contentType": _MEDIA_TYPES[part],
            "securityContext": {"reference": subject},
            "data": base64.b64encode(body).decode("ascii"),
        }
        for part, body in parts.items()
    }
    reference: Resource = {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uid}"},
        "status": "current",
        "docStatus": "final",
        "type": {
            "coding": [
                {
                    "system": f"urn:oid:{DOCUMENT_KINDS}",
                    "code": content.kind.value,
                    "display": content.kind.heading,
                }
            ]
        },
        "subject": {"reference": subject},
        "date": format_instant(content.created),
        "content": [
            {
                "attachment": {
                    "contentType": _MEDIA_TYPES[part],
                    "url": str(part_key(uid, part)),
                    "size": len(body),
                    "hash": base64.b64encode(hashlib.sha1(body).digest()).decode(),  # noqa: S324
                },
                "format": {"system": TAG_SYSTEM, "code": part},
            }
            for part, body in parts.items()
        ],
        "context": {"related": [{"reference": str(task)}]},
    }
    if content.replaces:
        target = {"reference": f"DocumentReference/{content.replaces}"}
        reference["relatesTo"] = [{"code": "replaces", "target": target}]
    return {**made, reference_key(uid): reference}


def task_of(reference: Resource) -> ResourceKey | None:
    """The registration of a document; None for a DocumentReference of somebody else's."""
    parts = {
        (each.get("format") or {}).get("code")
        for each in reference.get("content") or ()
        if (each.get("format") or {}).get("system") == TAG_SYSTEM
    }
    for related in (reference.get("context") or {}).get("related") or ():
        resource_type, _, resource_id = str(related.get("reference", "")).partition("/")
        if resource_type == "Task" and parts == set(_MEDIA_TYPES):
            return ResourceKey("Task", resource_id)
    return None


def signed_file(uid: str, read: Callable[[ResourceKey], Resource | None]) -> SignedFile | None:
    """The document as it was signed; None if a part of it is not there."""
    found = [read(key) for key in part_keys(uid)]
    bodies = [base64.b64decode(each["data"]) for each in found if each is not None]
    return SignedFile(*bodies) if len(bodies) == len(found) else None
