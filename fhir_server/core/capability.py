"""The CapabilityStatement: what the server claims to do.

https://hl7.org/fhir/R4/capabilitystatement.html
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameter, SearchParameters, SearchType
from fhir_server.core.version import format_instant

# A parameter that may refer to anything would be told of everything: 300 KB of it.
_MOST_TARGETS = 50
_COMPARTMENT = "http://hl7.org/fhir/CompartmentDefinition/"
_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
_STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"


def capability_statement(
    resource_types: Iterable[str],
    parameters: SearchParameters,
    interactions: Sequence[str],
    system_interactions: Sequence[str],
    operations: Sequence[tuple[str, str]],
    base_url: str,
    now: datetime,
    version: str,
    *,
    formats: Sequence[str] = ("application/fhir+json", "json"),
    patch_formats: Sequence[str] = (),
    is_create_conditional: bool = True,
    is_update_conditional: bool = False,
    conditional_delete: str = "not-supported",
    operations_of_types: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    compartments: Iterable[str] = (),
    topics: Sequence[str] = (),
    profiles: Iterable[tuple[str, str]] = (),
    read_only: Collection[str] = (),
    websocket_url: str = "",
    security: Resource | None = None,
    instantiates: Sequence[str] = (),
) -> Resource:
    """The statement of one running server.

    `interactions` are those of every type ("read", "search-type"), `system_interactions`
    those of the whole ("transaction"); `operations` are names with the canonical URLs of
    their definitions, and so are those of each type. `compartments` are the types that have
    one; of the types `read_only` nothing is written; `topics` are canonical URLs that can be
    subscribed to and `websocket_url` is where; `security` is how to show who asks. `instantiates`
    are the statements of guides that it keeps. `profiles`
    are those that are checked where a resource claims them: type and canonical URL. `now` is
    when the statement came to be true, aware.
    """
    types = sorted(resource_types)
    referring = _referring(types, parameters)
    supported = _supported(profiles, topics)
    shared: dict[str, Any] = {
        "interaction": [{"code": code} for code in interactions],
        "versioning": "versioned-update",
        "readHistory": "vread" in interactions,
        "updateCreate": "update" in interactions,
        "conditionalCreate": is_create_conditional,
        "conditionalRead": "full-support",
        "conditionalUpdate": is_update_conditional,
        "conditionalDelete": conditional_delete,
        "referencePolicy": ["literal", "logical", "local"],
    }
    rest: dict[str, Any] = {
        "mode": "server",
        "resource": [
            {
                "type": name,
                "profile": _STRUCTURE + name,
                **({"supportedProfile": supported[name]} if name in supported else {}),
                **shared,
                **_search(name, parameters, referring.get(name, ())),
                **_operations((operations_of_types or {}).get(name, ())),
                **(_only_read(interactions) if name in read_only else {}),
                **(_topics(topics) if name == "Subscription" else {}),
            }
            for name in types
        ],
    }
    if system_interactions:
        rest["interaction"] = [{"code": code} for code in system_interactions]
    rest |= _operations(operations)
    if security:
        rest["security"] = security
    if websocket_url:
        rest["extension"] = [
            {"url": f"{_STRUCTURE}capabilitystatement-websocket", "valueUri": websocket_url}
        ]
    if found := [_COMPARTMENT + name.lower() for name in sorted(compartments)]:
        rest["compartment"] = found
    statement: Resource = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": format_instant(now),
        "kind": "instance",
        **({"instantiates": list(instantiates)} if instantiates else {}),
        "software": {"name": "fhir-server", "version": version},
        "implementation": {
            "description": "FHIR server for personal medical assistants",
            "url": base_url,
        },
        "fhirVersion": "4.0.1",
        "format": list(formats),
        "rest": [rest],
    }
    if patch_formats:
        statement["patchFormat"] = list(patch_formats)
    return statement


# Parameters of every type that R4 defines in words, and their types.
_IN_WORDS = (
    ("_content", "string"),
    ("_filter", "special"),
    ("_list", "string"),
    ("_text", "string"),
)


_WRITING = frozenset({"create", "update", "patch", "delete"})


def _only_read(interactions: Sequence[str]) -> dict[str, Any]:
    return {
        "interaction": [{"code": code} for code in interactions if code not in _WRITING],
        "updateCreate": False,
        "conditionalCreate": False,
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
    }


def _topics(topics: Iterable[str]) -> dict[str, Any]:
    """https://hl7.org/fhir/uv/subscriptions-backport/components.html"""
    url = f"{_BACKPORT}capabilitystatement-subscriptiontopic-canonical"
    found = [{"url": url, "valueCanonical": each} for each in sorted(topics)]
    return {"extension": found} if found else {}


def _supported(
    profiles: Iterable[tuple[str, str]], topics: Sequence[str]
) -> Mapping[str, list[str]]:
    """The profiles of each type."""
    found: dict[str, list[str]] = {}
    if topics:
        found["Subscription"] = [f"{_BACKPORT}backport-subscription"]
    for name, url in profiles:
        found.setdefault(name, []).append(url)
    return found


def _operations(operations: Sequence[tuple[str, str]]) -> dict[str, Any]:
    found = [{"name": name, "definition": url} for name, url in operations]
    return {"operation": found} if found else {}


def _search(
    resource_type: str, parameters: SearchParameters, referring: Sequence[str]
) -> dict[str, Any]:
    own = _searchable(resource_type, parameters)
    found: dict[str, Any] = {}
    includes = [f"{resource_type}:{p.code}" for p in own if p.type is SearchType.REFERENCE]
    if includes:
        found["searchInclude"] = ["*", *includes]
    if referring:
        found["searchRevInclude"] = list(referring)
    if own:
        found["searchParam"] = [
            *({"name": code, "type": kind} for code, kind in _IN_WORDS),
            *({"name": p.code, "definition": p.url, "type": p.type.value} for p in own),
        ]
    return found


def _searchable(resource_type: str, parameters: SearchParameters) -> list[SearchParameter]:
    """The parameters of a type by name; the special ones each want a code of their own."""
    return [
        parameter
        for _, parameter in sorted(parameters.for_type(resource_type).items())
        if parameter.type is not SearchType.SPECIAL
    ]


def _referring(types: Sequence[str], parameters: SearchParameters) -> Mapping[str, list[str]]:
    """By type: the parameters of all types that may refer to it."""
    found: dict[str, list[str]] = {}
    for resource_type in types:
        for parameter in _searchable(resource_type, parameters):
            if parameter.type is SearchType.REFERENCE:
                targets = parameter.targets or types
                if len(targets) > _MOST_TARGETS:
                    continue
                for target in targets:
                    found.setdefault(target, []).append(f"{resource_type}:{parameter.code}")
    return found
