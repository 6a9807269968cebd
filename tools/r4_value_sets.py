"""What `extract_r4.py` keeps of value sets to check codes fast: those that can be listed."""

from collections.abc import Iterable, Iterator, Sequence

from r4_package import Json, Package


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
