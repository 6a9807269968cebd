"""`python -m bench.validate`: microseconds to validate a blood pressure, beside other ways.

In one process, processor time, the best of rounds in which every way has its turn: read the
ratios. `make bench` has the same as rows of its table.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fhir.resources.R4B.observation import Observation
from rich.console import Console
from rich.table import Table

from bench.result import Comparison, Row
from fhir_server.core import resource_json
from fhir_server.core.validation.profiled import check_claims
from fhir_server.definitions import load
from fhir_server.errors import Issue

NAME = "validate"
AIM = 10.0

_ROUNDS = 7
_PARSE = "parse"
_BASE = "parse and base"
_ALL = "parse, base and profile"
_OTHER = "fhir.resources, parse and base"
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

    def base() -> None:
        _refuse(definitions.validator.check(resource_json.parse_resource(body)))

    def everything() -> None:
        parsed = resource_json.parse_resource(body)
        _refuse(definitions.validator.check(parsed))
        _refuse(claims(parsed))

    def claims(parsed: dict[str, Any]) -> tuple[Issue, ...]:
        return check_claims(lambda _: definitions.profiles, parsed, "refuse", is_sound=True)

    def slow_claims() -> None:
        check_claims(lambda _: definitions.profiles, resource, "refuse")

    return _fastest(
        {
            "json.loads": lambda: json.loads(body),
            _PARSE: lambda: resource_json.parse_resource(body),
            "base": lambda: definitions.validator.check(resource),
            "profile": lambda: claims(resource),
            "profile, told what is wrong": slow_claims,
            _BASE: base,
            _ALL: everything,
            _OTHER: lambda: Observation.model_validate_json(body),
        },
        number,
    )


def measure_rows(number: int = 500) -> Iterator[Row]:
    """As rows of the benchmark's table; parsing is in them."""
    timings = dict(measure(number))
    for way in (_BASE, _ALL):
        took = timings[way]
        yield Row(
            store="in process",
            readings=1,
            load=f"{NAME}: {way}",
            connections=1,
            per_second=1e6 / took,
            p50=took / 1e3,
            p95=took / 1e3,
            p99=took / 1e3,
            note=f"{took:.1f} µs of processor time",
        ).against(
            Comparison(
                f"parsing, {timings[_PARSE]:.1f} µs", took / timings[_PARSE], AIM, is_ceiling=True
            ),
            Comparison(f"json.loads, {timings['json.loads']:.1f} µs", took / timings["json.loads"]),
            Comparison(f"{_OTHER}, {timings[_OTHER]:.0f} µs", took / timings[_OTHER]),
        )


def _refuse(issues: tuple[Issue, ...]) -> None:
    if issues:
        raise ValueError(f"the blood pressure is told to be wrong: {issues[0].diagnostics}")


def _fastest(ways: dict[str, Callable[[], object]], number: int) -> list[Timing]:
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(_ROUNDS):
        for way, call in ways.items():
            call()
            start = time.process_time_ns()
            for _ in range(number):
                call()
            best[way] = min(best[way], (time.process_time_ns() - start) / number / 1e3)
    return [Timing(way, microseconds) for way, microseconds in best.items()]


def main() -> int:
    timings = measure()
    parse = next(t.microseconds for t in timings if t.way == _PARSE)
    table = Table("validate a blood pressure", "µs", "times parsing")
    for way, microseconds in timings:
        table.add_row(way, f"{microseconds:.1f}", f"{microseconds / parse:.1f}")
    Console(width=80).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
