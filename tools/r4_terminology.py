"""What `extract_r4.py` keeps of R4's code systems and value sets: what R4's bindings need.

Displays, hierarchy, properties and designations stay; definitions and narrative go. Left out
are the names of SNOMED CT concepts, and code systems that are not HL7's own work: their
licences are not CC0.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

_STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
_VITAL_SIGNS = frozenset(
    [
        *("bmi", "bodyheight", "bodytemp", "bodyweight", "bp", "headcircum", "heartrate"),
        *("oxygensat", "resprate", "vitalsigns", "vitalspanel"),
    ]
)
_KEPT = (
    "resourceType",
    "url",
    "version",
    "name",
    "status",
    "caseSensitive",
    "valueSet",
    "content",
    "count",
    "concept",
    "compose",
)
_KEPT_OF_CONCEPT = ("code", "display", "designation", "property")
_OWN = ("http://hl7.org/fhir/", "http://terminology.hl7.org/")
_SNOMED = "http://snomed.info/sct"


def terminology(definitions: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    """By ``type|url|version``: the value sets of all bindings, and the code systems of those."""
    value_sets: dict[str, Json] = {}
    systems: set[str] = set()
    waiting = sorted(_bound(definitions["StructureDefinition"].values()))
    while waiting:
        url = waiting.pop().partition("|")[0]
        value_set = definitions["ValueSet"].get(url)
        if value_set is None or url in value_sets:
            continue
        value_sets[url] = value_set
        for part in _parts(value_set):
            systems.update([part["system"]] if "system" in part else ())
            waiting += part.get("valueSet", ())
    code_systems = definitions["CodeSystem"]
    kept = [code_systems[url] for url in systems if url in code_systems and url.startswith(_OWN)]
    found = [_outline(each) for each in (*kept, *value_sets.values())]
    named = {f"{r['resourceType']}|{r['url']}|{r.get('version', '')}": r for r in found}
    return dict(sorted(named.items()))


def _bound(structures: Any) -> set[str]:
    return {
        element["binding"]["valueSet"]
        for structure in structures
        if structure.get("derivation", "specialization") == "specialization"
        or structure["url"].removeprefix(_STRUCTURE) in _VITAL_SIGNS
        for element in structure["snapshot"]["element"]
        if "valueSet" in element.get("binding", {})
    }


def _parts(value_set: Json) -> Iterator[Json]:
    compose = value_set.get("compose", {})
    yield from compose.get("include", ())
    yield from compose.get("exclude", ())


def _outline(resource: Json) -> Json:
    kept = {name: resource[name] for name in _KEPT if name in resource}
    if "concept" in kept:
        kept["concept"] = [_concept(each) for each in kept["concept"]]
    if "compose" in kept:
        kept["compose"] = {
            name: [_part(each) for each in kept["compose"][name]]
            for name in ("include", "exclude")
            if name in kept["compose"]
        }
    return kept


def _part(part: Json) -> Json:
    kept = {k: v for k, v in part.items() if k != "extension"}
    if "concept" in kept:
        names = ("code",) if part.get("system") == _SNOMED else _KEPT_OF_CONCEPT
        kept["concept"] = [{n: c[n] for n in names if n in c} for c in kept["concept"]]
    return kept


def _concept(concept: Json) -> Json:
    kept = {name: concept[name] for name in _KEPT_OF_CONCEPT if name in concept}
    if "concept" in concept:
        kept["concept"] = [_concept(each) for each in concept["concept"]]
    return kept
