"""Subsets: the part of a resource that `_elements` or `_summary` asks for, marked SUBSETTED.

https://hl7.org/fhir/R4/search.html#summary
"""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from fhir_server.core import resource_json
from fhir_server.core.element_types import Element, ElementTypes
from fhir_server.core.resource_json import Resource

Summary = Literal["true", "text", "data"]

_TAG = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "subsetted",
}
# What tells which resource this is, and what may turn its meaning around.
_ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})


class Part(NamedTuple):
    """What to keep: the elements that are named, or a summary."""

    elements: frozenset[str] = frozenset()
    summary: Summary | None = None


def subset(body: bytes, part: Part, types: ElementTypes) -> bytes:
    """`part` of the resource in `body`; what R4 requires of its type stays too."""
    resource = resource_json.parse_resource(body)
    resource_type = resource["resourceType"]
    if part.summary == "data":
        kept = {name: value for name, value in resource.items() if name != "text"}
    elif part.summary == "true":
        kept = _summarize(resource, resource_type, types)
    else:
        wanted = {"text"} if part.summary == "text" else part.elements
        names = _json_names(resource_type, wanted, types)
        kept = {name: value for name, value in resource.items() if name.lstrip("_") in names}
    return resource_json.format(_tag(kept))


def _json_names(resource_type: str, wanted: Collection[str], types: ElementTypes) -> frozenset[str]:
    names = set(_ALWAYS)
    asked = {_bare_name(name, resource_type) for name in wanted}
    for element in types.elements(resource_type).values():
        own = [name for name, _ in element.json_names()]
        if element.is_required or element.name in asked or not asked.isdisjoint(own):
            names.update(own)
    return frozenset(names)


def _bare_name(name: str, resource_type: str) -> str:
    # Clients write Patient.name and value[x] too; of a deeper path the top is kept.
    return name.removeprefix(f"{resource_type}.").partition(".")[0].removesuffix("[x]")


def _summarize(value: Resource, type_name: str, types: ElementTypes) -> Resource:
    kinds = {
        name: (element, code)
        for element in types.elements(type_name).values()
        for name, code in element.json_names()
    }
    kept: Resource = {}
    for name, inner in value.items():
        if name in _ALWAYS:
            kept[name] = inner
        elif (kind := kinds.get(name.lstrip("_"))) and _is_in_summary(kind[0]):
            kept[name] = _summarize_inner(inner, kind[1], types)
    return kept


def _is_in_summary(element: Element) -> bool:
    return element.is_summary or element.is_required


def _summarize_inner(value: Any, type_name: str, types: ElementTypes) -> Any:
    # Datatypes are kept whole; only backbone elements ("Patient.contact") are looked into.
    if "." not in type_name:
        return value
    if isinstance(value, list):
        return [_summarize_inner(item, type_name, types) for item in value]
    return _summarize(value, type_name, types) if isinstance(value, dict) else value


def _tag(resource: Resource) -> Resource:
    meta = dict(resource.get("meta") or {})
    meta["tag"] = [*(meta.get("tag") or ()), _TAG]
    return {**resource, "meta": meta}
