"""$closure: how the codes that a client has met subsume each other, kept up to date.

https://hl7.org/fhir/R4/terminology-service.html#closure. The table is a ConceptMap: an element
for each code, a target for each code above it. Its versions are the versions of the closure,
so what is new since one of them is the difference of two.
"""

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.coding import Asked

_URL = "https://pmp.example/fhir/closure/"

Above = Callable[[str, str], Iterable[str]]


class Relation(NamedTuple):
    """`code` stands below `other`, both of `system`."""

    system: str
    code: str
    other: str


class Table(NamedTuple):
    """The codes by system, and how they stand to each other."""

    codes: frozenset[tuple[str, str]] = frozenset()
    relations: frozenset[Relation] = frozenset()


def closure_id(name: str) -> str:
    """The id of the ConceptMap that keeps the closure of that name."""
    return f"closure-{sha256(name.encode()).hexdigest()[:40]}"


def is_closure(concept_map: Resource) -> bool:
    """Whether a ConceptMap is a closure, which translates nothing."""
    return str(concept_map.get("url", "")).startswith(_URL)


def read_table(concept_map: Resource | None) -> Table:
    """The table that a ConceptMap keeps; None is an empty one."""
    codes: set[tuple[str, str]] = set()
    relations: set[Relation] = set()
    for group in (concept_map or {}).get("group") or ():
        system = group["source"]
        for element in group["element"]:
            codes.add((system, element["code"]))
            for target in element.get("target") or ():
                if target.get("code"):
                    relations.add(Relation(system, element["code"], target["code"]))
    return Table(frozenset(codes), frozenset(relations))


def add(table: Table, asked: Iterable[Asked], above: Above) -> Table:
    """`table` with more codes; `above` are the codes that stand above one, itself perhaps too."""
    codes = table.codes | {(each.system, each.code) for each in asked}
    relations = {
        Relation(system, code, other)
        for system, code in codes
        for other in above(system, code)
        if other != code and (system, other) in codes
    }
    return Table(codes, frozenset(relations))


def format_table(table: Table, name: str, resource_id: str) -> Resource:
    """The ConceptMap that keeps `table`."""
    by_system: dict[str, dict[str, list[str]]] = {}
    for system, code in sorted(table.codes):
        by_system.setdefault(system, {})[code] = []
    for relation in sorted(table.relations):
        by_system[relation.system][relation.code].append(relation.other)
    return _concept_map(name, by_system, "specializes") | {"id": resource_id}


def format_difference(before: Table, after: Table, name: str, version: str) -> Resource:
    """What became true of the closure since `before`, and as `unmatched` what no longer is."""
    new: dict[str, dict[str, list[str]]] = {}
    gone: dict[str, dict[str, list[str]]] = {}
    for found, relations in (
        (new, after.relations - before.relations),
        (gone, before.relations - after.relations),
    ):
        for relation in sorted(relations):
            found.setdefault(relation.system, {}).setdefault(relation.code, []).append(
                relation.other
            )
    told = _concept_map(name, new, "specializes")
    groups = [*told.pop("group", ()), *_concept_map(name, gone, "unmatched").pop("group", ())]
    return {**told, "version": version, **({"group": groups} if groups else {})}


def _concept_map(
    name: str, by_system: Mapping[str, Mapping[str, list[str]]], equivalence: str
) -> Resource:
    groups: list[dict[str, Any]] = []
    for system, elements in by_system.items():
        listed: list[dict[str, Any]] = []
        for code, others in elements.items():
            element: dict[str, Any] = {"code": code}
            if others:
                element["target"] = [{"code": o, "equivalence": equivalence} for o in others]
            listed.append(element)
        groups.append({"source": system, "target": system, "element": listed})
    found: Resource = {
        "resourceType": "ConceptMap",
        "url": _URL + sha256(name.encode()).hexdigest()[:40],
        "name": "Closure",
        "title": name,
        "status": "active",
        "experimental": True,
    }
    return found | ({"group": groups} if groups else {})
