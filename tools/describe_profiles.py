"""Writes the tables of `profiles/project/README.md` from the profiles themselves.

python tools/describe_profiles.py            writes the tables
python tools/describe_profiles.py --check    fails if they are not current
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_server.core.validation.profile import UNBOUNDED, Node, Profile
from fhir_server.core.validation.profiles import Profiles
from fhir_server.core.validation.type_rules import ElementRule
from fhir_server.definitions import load

Json = dict[str, Any]

FOLDER = Path(__file__).resolve().parent.parent / "profiles" / "project"
README = FOLDER / "README.md"

_MARK = "<!-- What follows is written by tools/describe_profiles.py. -->\n"
_OURS = "https://pmp.example/fhir/"
_R4 = "http://hl7.org/fhir/StructureDefinition/"
_ORDER = (
    "device-reading", "home-blood-pressure", "home-pulse", "capillary-glucose",
    "continuous-glucose", "fetal-heart-rate", "ctg-trace", "auxiliary-reading",
    "implant-interrogation", "home-device", "device-assignment", "remote-monitoring-plan",
    "monitoring-goal", "alert", "alert-notice", "monitored-patient", "original-quantity",
    "alert-rule",
)  # fmt: skip


def written() -> str:
    """The README as it should be."""
    prose, mark, _ = README.read_text(encoding="utf-8").partition(_MARK)
    if not mark:
        raise ValueError(f"{README} has lost its mark")
    return prose + _MARK + "\n" + "\n".join(_parts()).rstrip("\n") + "\n"


def _parts() -> Iterator[str]:
    profiles = load().profiles
    found = {r["id"]: r for r in _read("StructureDefinition")}
    for name in (*_ORDER, *sorted(found.keys() - set(_ORDER))):
        yield from _profile(found[name], profiles)
    yield "## Value sets\n"
    yield "| value set | codes |\n|---|---|"
    for value_set in _read("ValueSet"):
        yield f"| `{value_set['id']}` {value_set['title']} | {_codes(value_set)} |"
    yield "\n## Code systems\n"
    yield "| code system | codes |\n|---|---|"
    for system in _read("CodeSystem"):
        codes = ", ".join(f"`{c['code']}`" for c in system["concept"])
        yield f"| `{system['id']}` {system['title']} | {codes} |"


def _profile(definition: Json, profiles: Profiles) -> Iterator[str]:
    profile = profiles.find(definition["url"])
    if profile is None:
        raise ValueError(profiles.fault(definition["url"]) or definition["url"])
    yield f"## `{definition['id']}`: {definition['title']}\n"
    yield f"{definition['description']} Derived from {_name(definition['baseDefinition'])}.\n"
    yield "| element | cardinality | S | must be | why |\n|---|---|---|---|---|"
    rules = []
    for element in definition["differential"]["element"]:
        rules += [(element["id"], rule) for rule in element.get("constraint", ())]
        if element["id"] != profile.type_name:
            node, of_type, name = _find(profile, element["id"], profiles)
            must = "; ".join(_must(element))
            support = "S" if node.is_must_support else ""
            step = element["id"].partition(".")[2]
            why = " ".join(t for t in (_label(element), element.get("requirements", "")) if t)
            cells = f"`{step}`", _cardinality(node, of_type, name), support, must, why
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for place, rule in rules:
        weight = "" if rule["severity"] == "error" else f" ({rule['severity']})"
        yield f"- `{rule['key']}` on `{place}`{weight}: {rule['human']}"
    yield from ("",) if rules else ()


def _find(profile: Profile, identity: str, profiles: Profiles) -> tuple[Node, ElementRule, str]:
    """The node of an element, R4's rule for it, and the slice that it is, if any."""
    node, type_name, slice_name = profile.root, profile.type_name, ""
    rule = None
    for step in identity.split(".")[1:]:
        name, _, slice_name = step.partition(":")
        rule = next(
            e for e in profiles.rules[type_name].elements if e.name == name.removesuffix("[x]")
        )
        element = node = node.children[rule.name]
        if slice_name:
            node = node.slices[slice_name]
        types = node.types or element.types
        is_said = types is not None and len(types) == 1 and "." not in rule.types[0]
        type_name = types[0].code if types and is_said else rule.types[0]
    if rule is None:
        raise ValueError(identity)
    return node, rule, slice_name


def _cardinality(node: Node, rule: ElementRule, slice_name: str) -> str:
    least = node.minimum if node.minimum is not None else 0 if slice_name else rule.minimum
    most = node.maximum
    if most is None:
        most = UNBOUNDED if rule.is_list else 1
    return f"{least}..{'*' if most == UNBOUNDED else most}"


def _label(element: Json) -> str:
    return f"*{element['short']}.*" if element.get("short") else ""


def _must(element: Json) -> Iterator[str]:
    if types := element.get("type"):
        yield " or ".join(map(_type, types))
    for name, value in element.items():
        if name.startswith(("fixed", "pattern")):
            yield f"`{value}`"
    if binding := element.get("binding"):
        yield f"{binding['strength']} {_name(binding['valueSet'])}"
    if slicing := element.get("slicing"):
        yield "sliced by " + ", ".join(f"`{d['path']}`" for d in slicing["discriminator"])


def _type(said: Json) -> str:
    if targets := said.get("targetProfile"):
        return f"Reference({', '.join(map(_name, targets))})"
    if profiles := said.get("profile"):
        return ", ".join(map(_name, profiles))
    return str(said["code"])


def _name(url: str) -> str:
    if url.startswith(_OURS):
        return f"`{url.rpartition('/')[2]}`"
    last = url.removeprefix(_R4).rpartition("/")[2]
    return f"R4 `{last}`" if last[:1].islower() else last


def _codes(value_set: Json) -> str:
    parts = []
    for include in value_set["compose"]["include"]:
        codes = ", ".join(f"`{c['code']}`" for c in include.get("concept", ()))
        parts.append(f"{codes or 'all'} of `{include['system']}`")
    return "; ".join(parts)


def _read(kind: str) -> list[Json]:
    paths = sorted(FOLDER.glob(f"{kind}-*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    text = written()
    if not parser.parse_args().check:
        README.write_text(text, encoding="utf-8")
    elif text != README.read_text(encoding="utf-8"):
        print(f"{README} is not current: run tools/describe_profiles.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
