"""What `extract_r4.py` keeps of search parameters and compartments."""

import re
from collections.abc import Iterator

from r4_package import Json, Package

_CORRECTED_EXPRESSIONS = {
    # The only expression that does not name its root.
    "http://hl7.org/fhir/SearchParameter/InsurancePlan-name": (
        "InsurancePlan.name | InsurancePlan.alias"
    ),
}
_CORRECTED_TYPES = {"DateTime": "dateTime"}


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
