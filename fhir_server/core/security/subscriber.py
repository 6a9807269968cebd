"""Subscribers: for whom a Subscription was made, written into it by the server.

Events are told long after the request that asked for them, in another process perhaps.
What the subscriber may see is derived anew each time from what stands here; what a client
writes here itself is replaced.
"""

from hashlib import sha256
from typing import Any

import msgspec

from fhir_server.core import reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.security import scope
from fhir_server.core.security.principal import Principal

TAG_SYSTEM = "https://pmp.example/fhir/CodeSystem/subscriber"
EXTENSION = "https://pmp.example/fhir/StructureDefinition/subscriber"

_NOBODY = Principal("system")


def tag(principal: Principal) -> tuple[str, str]:
    """System and code of the tag by which a subscriber's Subscriptions are found."""
    name = msgspec.json.encode((principal.client_id, principal.subject, principal.patient))
    return TAG_SYSTEM, sha256(name).hexdigest()[:32]


def mark(resource: Resource, principal: Principal) -> None:
    """Write into a Subscription, in place, that it is `principal`'s."""
    system, code = tag(principal)
    meta = dict(resource.get("meta") or {})
    others = [each for each in _objects(meta.get("tag")) if each.get("system") != system]
    resource["meta"] = {**meta, "tag": [*others, {"system": system, "code": code}]}
    extensions = [e for e in _objects(resource.get("extension")) if e.get("url") != EXTENSION]
    said = format_principal(principal)
    resource["extension"] = [*extensions, {"url": EXTENSION, "valueString": said}]


def is_of(resource: Resource, principal: Principal) -> bool:
    """Whether a Subscription says that it is `principal`'s, and nothing else."""
    marked: Resource = dict(resource)
    mark(marked, principal)
    return bool(
        marked["meta"].get("tag") == (resource.get("meta") or {}).get("tag")
        and marked["extension"] == resource.get("extension")
    )


def read(resource: Resource) -> Principal | None:
    """Whose a Subscription is; None where it was made without access rules.

    One that cannot be understood is somebody's who may see nothing.
    """
    found = [e for e in _objects(resource.get("extension")) if e.get("url") == EXTENSION]
    if not found:
        return None
    try:
        (only,) = found
        return parse_principal(only["valueString"])
    except (KeyError, TypeError, ValueError):
        return _NOBODY


def format_principal(principal: Principal) -> str:
    """One who asks, in words to be kept until what they asked for is done."""
    return msgspec.json.encode(_fields(principal)).decode()


def parse_principal(text: str) -> Principal:
    """Whom `format_principal` wrote down; somebody who may see nothing if it did not."""
    try:
        return _principal(msgspec.json.decode(text, type=dict[str, Any]))
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.MsgspecError):
        return _NOBODY


def _objects(found: Any) -> list[Resource]:
    """The items of a list that are objects: where validation only warns, not all may be."""
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _fields(principal: Principal) -> dict[str, Any]:
    return {
        "kind": principal.kind,
        "client": principal.client_id,
        "subject": principal.subject,
        "scopes": [scope.format(each) for each in principal.scopes],
        "patient": str(principal.patient or ""),
        "user": str(principal.fhir_user or ""),
        "purposes": list(principal.purposes),
        "roles": sorted(principal.roles),
    }


def _principal(fields: dict[str, Any]) -> Principal:
    return Principal(
        fields["kind"],
        client_id=fields["client"],
        subject=fields["subject"],
        scopes=scope.parse_all(" ".join(fields["scopes"])),
        patient=_key(fields["patient"]),
        fhir_user=_key(fields["user"]),
        purposes=tuple(fields["purposes"]),
        roles=frozenset(fields["roles"]),
    )


def _key(text: str) -> ResourceKey | None:
    found = reference.parse(text)
    return ResourceKey(found.resource_type, found.resource_id) if found else None
