"""Writes what this server makes as files, one resource each, for other validators.

What the mappings' examples become, and everything that a demo holds and answers: people and
devices that were enrolled, readings, alerts, care plans, statements, outcomes, Bundles; and
beside them the definitions that these refer to.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from demo_server import answers, running_demo

Json = dict[str, Any]

_ROOT = Path(__file__).resolve().parent.parent
_DEFINITIONS = ("StructureDefinition", "ValueSet", "CodeSystem", "ConceptMap")
# R4 binds to all that IANA has registered; a validator without a terminology server has none.
_MEDIA_TYPES = (
    *("application/fhir+json", "application/fhir+xml", "json", "xml"),
    *("application/json", "application/json-patch+json", "application/merge-patch+json"),
    *("application/xml", "application/pkcs7-signature", "text/plain"),
)
_UNITS_OF_TIME = ("s", "min", "h", "d", "wk", "mo", "a", "1")


def of_mappings() -> Iterator[tuple[str, Json]]:
    """The resources that each example of a mapping must become."""
    for path in sorted((_ROOT / "mappings").glob("*/examples/*.expected.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        case = f"{path.parent.parent.name}-{path.name.removesuffix('.expected.json')}"
        for number, result in enumerate(results if isinstance(results, list) else ()):
            if resource := result.get("resource"):
                yield f"{case}-{number}", resource


def definitions() -> Iterator[tuple[str, Json]]:
    """What ships of our own, beside R4's.

    Of a code system of which a part ships, that part is told to be all: a validator without a
    terminology server looks at no other, and what we write is to be among what we know.
    """
    yield "CodeSystem-media-types", _all_of("urn:ietf:bcp:13", _MEDIA_TYPES)
    measurements = json.loads((_ROOT / "terminology" / "measurements.json").read_bytes())
    units = (*measurements["units"], *_UNITS_OF_TIME)
    yield "CodeSystem-ucum", _all_of("http://unitsofmeasure.org", dict.fromkeys(units))
    for folder in ("profiles", "terminology"):
        for path in sorted((_ROOT / folder).rglob("*-*.json")):
            if path.name.startswith(_DEFINITIONS):
                resource = json.loads(path.read_bytes())
                if resource.get("content") == "fragment":
                    resource["content"] = "complete"
                yield path.stem, resource


def _all_of(url: str, codes: Iterable[str]) -> Json:
    return {
        "resourceType": "CodeSystem",
        "url": url,
        "status": "active",
        "content": "complete",
        "concept": [{"code": code} for code in codes],
    }


def write(folder: Path, resources: Iterator[tuple[str, Json]]) -> Counter[str]:
    """How many there are by type."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written: Counter[str] = Counter()
    for name, resource in resources:
        text = json.dumps(resource, ensure_ascii=False, indent=2)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
        written[resource["resourceType"]] += 1
    return written


def everything() -> Iterator[tuple[str, Json]]:
    yield from of_mappings()
    with running_demo() as server:
        yield from answers(server)
