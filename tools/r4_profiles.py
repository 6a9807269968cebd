"""What `extract_r4.py` keeps of the vital-signs profiles, and of R4's invariants."""

from collections.abc import Iterable, Mapping

from r4_package import STRUCTURE, Json, Package
from r4_value_sets import value_sets

_VITAL_SIGNS = (
    "vitalsigns",
    "vitalspanel",
    "bp",
    "heartrate",
    "resprate",
    "oxygensat",
    "bodytemp",
    "bodyheight",
    "bodyweight",
    "bmi",
    "headcircum",
)
_KEPT = (
    "id",
    "path",
    "sliceName",
    "slicing",
    "min",
    "max",
    "type",
    "contentReference",
    "minValue",
    "maxValue",
    "maxLength",
    "binding",
    "constraint",
    "mustSupport",
)
# What every element keeps: the structural check sees to it.
_OF_EVERYTHING = frozenset({"ele-1", "ext-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6"})
_HELD = frozenset({"required", "extensible"})


def profiles(package: Package) -> list[Json]:
    """The vital-signs profiles with their snapshots, without what R4 says of the type anyway."""
    basic = {
        element["path"]: _trimmed(element, frozenset())
        for definition in package.of_type("StructureDefinition").values()
        if definition.get("derivation", "specialization") == "specialization"
        for element in definition.get("snapshot", {}).get("element", ())
    }
    return [_profile(package, STRUCTURE + name, basic) for name in _VITAL_SIGNS]


def _profile(package: Package, url: str, basic: Mapping[str, Json]) -> Json:
    definition = package.of_type("StructureDefinition")[url]
    known = {rule[0] for rules in invariants(package).values() for rule in rules} | _OF_EVERYTHING
    kept = []
    for element in definition["snapshot"]["element"]:
        trimmed = _trimmed(element, known)
        plain = basic.get(element.get("base", {}).get("path"), {})
        here = {"id": "", "path": "", "constraint": []}
        if {**plain, **here} != {**trimmed, "id": "", "path": ""}:
            kept.append({k: v for k, v in trimmed.items() if v != []})
    head = ("resourceType", "url", "version", "name", "status", "kind", "abstract", "type")
    return {
        **{name: definition[name] for name in head},
        "baseDefinition": definition["baseDefinition"],
        "derivation": "constraint",
        "snapshot": {"element": kept},
    }


def _trimmed(element: Json, known: Iterable[str]) -> Json:
    found = {k: v for k, v in element.items() if k in _KEPT or k.startswith(("fixed", "pattern"))}
    if found.get("binding", {}).get("strength") not in _HELD:
        found.pop("binding", None)
    else:
        found["binding"] = {k: found["binding"][k] for k in ("strength", "valueSet")}
    if element["path"].endswith(".extension") and "sliceName" not in found:
        found.pop("slicing", None)
    found["constraint"] = [
        _constraint(c) for c in found.get("constraint", ()) if c["key"] not in known
    ]
    return found


def _constraint(constraint: Json) -> Json:
    return {k: constraint[k] for k in ("key", "severity", "human", "expression")}


def profile_value_sets(package: Package) -> dict[str, dict[str, list[str]]]:
    """The codes of what the profiles bind to, where they can be listed."""
    bound = {
        element["binding"]["valueSet"].partition("|")[0]
        for profile in profiles(package)
        for element in profile["snapshot"]["element"]
        if "binding" in element
    }
    return value_sets(package, bound)


def invariants(package: Package) -> dict[str, list[list[str]]]:
    """By element: the key, severity, text and expression of each invariant that R4 has for it."""
    found: dict[str, list[list[str]]] = {}
    for definition in package.of_type("StructureDefinition").values():
        if definition.get("derivation", "specialization") != "specialization":
            continue
        for element in definition.get("snapshot", {}).get("element", ()):
            rules = found.setdefault(element["path"], [])
            for c in element.get("constraint", ()):
                if "expression" in c:
                    rules.append([c["key"], c["severity"], c["human"], c["expression"]])
    return {
        path: own
        for path, rules in sorted(found.items())
        if (own := [r for r in rules if r[0] not in _OF_EVERYTHING])
    }
