"""The invariants of a Bundle.

https://hl7.org/fhir/R4/bundle.html#invs. A Bundle is never told by the schema alone, so
these need no guard.
"""

from collections.abc import Callable

from fhir_server.core.resource_json import Resource
from fhir_server.core.validation.invariant import NO_GUARD, Invariant, needs_any


def table() -> tuple[Invariant, ...]:
    return (
        Invariant(
            "bdl-1",
            "Bundle",
            "only a search or a history has a total",
            _only_in(frozenset({"searchset", "history"}), "total"),
            NO_GUARD,
        ),
        Invariant(
            "bdl-2",
            "Bundle",
            "only the entries of a search say how they were found",
            _only_searches_say_how,
            NO_GUARD,
        ),
        Invariant(
            "bdl-3",
            "Bundle",
            "every entry of a batch, transaction or history, and no other, has a request",
            _each_entry(frozenset({"batch", "transaction", "history"}), "request"),
            NO_GUARD,
        ),
        Invariant(
            "bdl-4",
            "Bundle",
            "every entry of a response or history, and no other, has a response",
            _each_entry(
                frozenset({"batch-response", "transaction-response", "history"}), "response"
            ),
            NO_GUARD,
        ),
        needs_any(
            "bdl-5",
            "Bundle.entry",
            "needs a resource, a request or a response",
            ("resource", "request", "response"),
        ),
        Invariant("bdl-7", "Bundle", "a fullUrl must not come twice", _full_urls_differ, NO_GUARD),
        Invariant(
            "bdl-9",
            "Bundle",
            "a document needs an identifier with a system and a value",
            _has_system_and_value,
            NO_GUARD,
        ),
        Invariant(
            "bdl-11",
            "Bundle",
            "a document begins with a Composition",
            _first_is("document", "Composition"),
            NO_GUARD,
        ),
        Invariant(
            "bdl-12",
            "Bundle",
            "a message begins with a MessageHeader",
            _first_is("message", "MessageHeader"),
            NO_GUARD,
        ),
    )


def _has_system_and_value(bundle: Resource) -> bool:
    identifier = bundle.get("identifier")
    return _type(bundle) != "document" or (
        isinstance(identifier, dict) and "system" in identifier and "value" in identifier
    )


def _type(bundle: Resource) -> str:
    kind = bundle.get("type")
    return kind if isinstance(kind, str) else ""


def _entries(bundle: Resource) -> list[Resource]:
    entries = bundle.get("entry")
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def _full_urls_differ(bundle: Resource) -> bool:
    if _type(bundle) == "history":
        return True
    seen = [
        (e["fullUrl"], str((_resource(e).get("meta") or {}).get("versionId")))
        for e in _entries(bundle)
        if isinstance(e.get("fullUrl"), str) and isinstance(_resource(e).get("meta") or {}, dict)
    ]
    return len(seen) == len(set(seen))


def _resource(entry: Resource) -> Resource:
    resource = entry.get("resource")
    return resource if isinstance(resource, dict) else {}


def _each_entry(kinds: frozenset[str], name: str) -> Callable[[Resource], bool]:
    """`name` is in every entry of a Bundle of these types, and in no other Bundle's."""

    def holds(bundle: Resource) -> bool:
        is_due = _type(bundle) in kinds
        return all((name in entry) == is_due for entry in _entries(bundle))

    return holds


def _only_in(kinds: frozenset[str], name: str) -> Callable[[Resource], bool]:
    def holds(bundle: Resource) -> bool:
        return name not in bundle or _type(bundle) in kinds

    return holds


def _only_searches_say_how(bundle: Resource) -> bool:
    return _type(bundle) == "searchset" or not any("search" in e for e in _entries(bundle))


def _first_is(kind: str, resource_type: str) -> Callable[[Resource], bool]:
    def holds(bundle: Resource) -> bool:
        if _type(bundle) != kind:
            return True
        entries = _entries(bundle)
        return bool(entries) and _resource(entries[0]).get("resourceType") == resource_type

    return holds
