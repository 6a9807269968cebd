"""Resources as another FHIR server is to have them: by identifier, without our ids."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource

_LOCAL = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]+)?\Z")
_SERVERS_META = ("versionId", "lastUpdated", "source")

# Where a type says that it was a mistake, and how.
_MISTAKE = {
    "CarePlan": ("status", "entered-in-error"),
    "DetectedIssue": ("status", "entered-in-error"),
    "Device": ("status", "entered-in-error"),
    "DeviceUseStatement": ("status", "entered-in-error"),
    "Goal": ("lifecycleStatus", "entered-in-error"),
    "Observation": ("status", "entered-in-error"),
    "Patient": ("active", False),
}
TYPES = frozenset(_MISTAKE)
"""What can be sent: all of them have a list of identifiers and a way to be taken back."""


class Token(NamedTuple):
    """An identifier as a search criterion takes it."""

    system: str
    value: str

    def criterion(self) -> str:
        """`identifier=system|value`, escaped for a search and for a URL."""
        system, value = (re.sub(r"([\\,|$])", r"\\\1", part) for part in self)
        return "identifier=" + quote(f"{system}|{value}", safe=":/|")


def token_of(resource: Resource, system: str) -> Token:
    """What names the resource over there: its first identifier, or one that `system` makes."""
    for identifier in resource.get("identifier") or ():
        if identifier.get("system") and identifier.get("value"):
            return Token(identifier["system"], identifier["value"])
    return Token(system, f"{resource['resourceType']}/{resource['id']}")


def references(resource: Resource) -> Iterator[ResourceKey]:
    """The resources of this server that it refers to, each once."""
    yield from dict.fromkeys(
        key for each in _found(resource) if (key := local_key(each)) is not None
    )


def outward(
    resource: Resource, token: Token, resolve: Callable[[ResourceKey], str | None]
) -> Resource:
    """The resource with the other side's references.

    Args:
        resource: as it is here.
        token: its identifier there; added where it has none.
        resolve: what the other side calls a resource of ours ("Patient/7"), or None; then
            the reference keeps its type and what it displays.
    """
    body = {
        name: _rewritten(value, resolve)
        for name, value in resource.items()
        if name not in ("id", "text", "contained")
    }
    meta = {k: v for k, v in (body.pop("meta", None) or {}).items() if k not in _SERVERS_META}
    identifiers = body.get("identifier") or []
    if token._asdict() not in [{n: i.get(n) for n in ("system", "value")} for i in identifiers]:
        body["identifier"] = [*identifiers, token._asdict()]
    return {"resourceType": body.pop("resourceType"), **({"meta": meta} if meta else {}), **body}


def taken_back(resource: Resource) -> Resource:
    """What was deleted here: over there it stays, marked as a mistake."""
    name, value = _MISTAKE[resource["resourceType"]]
    return {**resource, name: value}


def local_key(reference: Mapping[str, Any]) -> ResourceKey | None:
    matched = _LOCAL.match(str(reference.get("reference", "")))
    return ResourceKey(matched[1], matched[2]) if matched else None


def _found(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for part in value.values():
            yield from _found(part)
    elif isinstance(value, list):
        for part in value:
            yield from _found(part)


def _rewritten(value: Any, resolve: Callable[[ResourceKey], str | None]) -> Any:
    if isinstance(value, dict):
        key = local_key(value) if isinstance(value.get("reference"), str) else None
        if key is None:
            return {name: _rewritten(part, resolve) for name, part in value.items()}
        kept = {name: part for name, part in value.items() if name != "reference"}
        there = resolve(key)
        if there is None:
            return {"type": key.resource_type, **kept}
        return {**kept, "reference": there}
    if isinstance(value, list):
        return [_rewritten(part, resolve) for part in value]
    return value
