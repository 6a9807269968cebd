"""`python -m bench.validate`: microseconds to validate a blood pressure, beside other ways.

In one process, best of several rounds: read the ratios.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fhir.resources.R4B.observation import Observation
from rich.console import Console
from rich.table import Table

from fhir_server.core import resource_json
from fhir_server.core.validation.profiled import check_claims
from fhir_server.definitions import load
from fhir_server.errors import Issue

_ROUNDS = 7
_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


class Timing(NamedTuple):
    """One way to look at the Observation, in microseconds."""

    way: str
    microseconds: float


def blood_pressure() -> dict[str, Any]:
    def component(code: str, value: int) -> dict[str, Any]:
        return {
            "code": {"coding": [{"system": _LOINC, "code": code}]},
            "valueQuantity": {"value": value, "unit": "mmHg", "system": _UCUM, "code": "mm[Hg]"},
        }

    return {
        "resourceType": "Observation",
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"]},
        "identifier": [{"system": "https://pmp.example/fhir/reading", "value": "a/1"}],
        "basedOn": [{"reference": "CarePlan/1"}],
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": _LOINC, "code": "85354-9", "display": "Blood pressure"}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": "2026-03-01T08:00:00+03:00",
        "issued": "2026-03-01T05:00:02Z",
        "device": {"reference": "Device/1"},
        "component": [component("8480-6", 128), component("8462-4", 79)],
    }


def measure(number: int = 500) -> list[Timing]:
    """Each way, the fastest of its rounds of `number` calls."""
    definitions = load()
    resource = blood_pressure()
    body = resource_json.format(resource)

    def parse_and_all() -> None:
        parsed = resource_json.parse_resource(body)
        issues = (*definitions.validator.check(parsed), *claims(parsed))
        if issues:
            raise ValueError(f"the blood pressure is told to be wrong: {issues[0].diagnostics}")

    def claims(parsed: dict[str, Any]) -> tuple[Issue, ...]:
        return check_claims(lambda _: definitions.profiles, parsed, "refuse", is_sound=True)

    ways: dict[str, Callable[[], object]] = {
        "json.loads": lambda: json.loads(body),
        "parse": lambda: resource_json.parse_resource(body),
        "base rules": lambda: definitions.validator.check(resource),
        "profile bp": lambda: claims(resource),
        "parse, base and profile": parse_and_all,
        "fhir.resources, parse and base": lambda: Observation.model_validate_json(body),
    }
    return [Timing(way, _fastest(call, number)) for way, call in ways.items()]


def _fastest(call: Callable[[], object], number: int) -> float:
    call()
    rounds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(number):
            call()
        rounds.append((time.perf_counter() - start) / number)
    return min(rounds) * 1e6


def main() -> int:
    timings = measure()
    parse = next(t.microseconds for t in timings if t.way == "parse")
    table = Table("validate a blood pressure", "µs", "times parsing")
    for way, microseconds in timings:
        table.add_row(way, f"{microseconds:.1f}", f"{microseconds / parse:.1f}")
    Console(width=80).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
