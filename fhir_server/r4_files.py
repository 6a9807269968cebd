"""R4's own definitions as they are shipped: `profiles/r4`, extracted from HL7's package."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from fhir_server.core.resource_json import Resource

T = TypeVar("T")

ListedSets = dict[str, dict[str, frozenset[str]]]
"""Codes by value set and code system."""

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """The folder of that name that came with this program."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def decode(name: str, type_: type[T]) -> T:
    """The content of a file of `profiles/r4`."""
    content = (shipped_folder("profiles") / "r4" / name).read_bytes()
    return msgspec.json.decode(content, type=type_)


def read_value_sets() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """The codes by system of R4's own value sets, those that can be listed."""
    return decode("value-sets.json", ListedSets)


def profile_value_sets(known: Collection[tuple[str, str]]) -> Iterator[Resource]:
    """The sets that R4's vital-signs profiles bind to, but those `known` by type and URL."""
    listed = decode("profile-value-sets.json", ListedSets)
    for url, codes in listed.items():
        if ("ValueSet", url) in known:
            continue
        include = [
            {"system": system, "concept": [{"code": code} for code in sorted(of_system)]}
            for system, of_system in codes.items()
        ]
        yield {
            "resourceType": "ValueSet",
            "url": url,
            "status": "active",
            "compose": {"include": include},
        }


def read_r4_terminology() -> Mapping[tuple[str, str], bytes]:
    """What R4's bindings need, as JSON by type and URL, the latter bare and with its version."""
    found: dict[tuple[str, str], bytes] = {}
    for name, resource in decode("terminology.json", dict[str, msgspec.Raw]).items():
        kind, _, canonical = name.partition("|")
        url, _, version = canonical.rpartition("|")
        text = bytes(resource)
        found[kind, url] = text
        if version:
            found[kind, f"{url}|{version}"] = text
    return found
