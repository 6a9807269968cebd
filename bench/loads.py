"""The loads: what is asked of a server, its own or another; one entry each."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from bench.http_load import Address
from bench.readings import (
    GATEWAYS,
    GLUCOSE,
    HIGH_GLUCOSE,
    HIGH_SYSTOLIC,
    LOINC,
    OWN,
    PRESSURE,
    RARE_IMPRESSION,
    START,
    SYSTOLIC,
    UCUM,
    Names,
    Population,
    family,
    new_observation,
    payloads,
)
from fhir_server.core import resource_json

BATCH = 500


@dataclass(frozen=True)
class Scene:
    """A server with a population in it. `new` numbers the readings that loads store."""

    address: Address
    population: Population
    names: Names
    since: str
    new: "itertools.count[int]" = field(default_factory=itertools.count)

    def get(self, path: str) -> bytes:
        return self.address.request("GET", path)


@dataclass(frozen=True)
class Load:
    """A load: its requests without end, and what a server must declare for it.

    `weight` is how many resources a request stores. `bare` is the route it is compared
    with, `aim` the ratio that is asked for at the most connections. Where it `follows`, each
    connection goes on by the links to the next page.
    """

    name: str
    requests: Callable[[Scene], Iterator[bytes]]
    needs: tuple[str, ...]
    status: int = 200
    weight: int = 1
    is_write: bool = False
    follows: bool = False
    bare: Literal["echo", "kept", "bytes"] | None = None
    aim: float | None = None
    is_right: Callable[[dict[str, Any]], bool] = lambda body: True


def _has_entries(body: dict[str, Any]) -> bool:
    return any("resource" in entry for entry in body.get("entry", ()))


def _are_all_stored(body: dict[str, Any]) -> bool:
    return all(entry["response"]["status"].startswith("201") for entry in body["entry"])


def _numbers(modulus: int) -> Iterator[int]:
    """Numbers below `modulus`, spread over all of them, without end."""
    return (n * 7_919 % modulus for n in itertools.count())


def _code(code: str) -> str:
    return quote(f"{LOINC}|{code}", safe="")


def newest_path(patient_id: str) -> str:
    """The search that the system lives on: one patient's blood pressures, newest first."""
    return (
        f"Observation?patient=Patient/{patient_id}&code={_code(PRESSURE)}"
        f"&date=ge{START:%Y-%m-%d}&_sort=-date&_count=20"
    )


def _of_patients(
    path: Callable[[str], str], most: int = 10**9
) -> Callable[[Scene], Iterator[bytes]]:
    def requests(scene: Scene) -> Iterator[bytes]:
        for number in _numbers(min(most, scene.population.patients)):
            yield scene.get(path(scene.names.patient(number)))

    return requests


def _same(path: str) -> Callable[[Scene], Iterator[bytes]]:
    return lambda scene: itertools.repeat(scene.get(path))


def _of_readings(path: str) -> Callable[[Scene], Iterator[bytes]]:
    def requests(scene: Scene) -> Iterator[bytes]:
        for number in _numbers(scene.population.readings):
            yield scene.get(path.format(scene.names.reading(number)))

    return requests


def _numbered(modulus: int, path: Callable[[int], str]) -> Callable[[Scene], Iterator[bytes]]:
    return lambda scene: (scene.get(path(number)) for number in _numbers(modulus))


def _by_identifier(scene: Scene) -> Iterator[bytes]:
    for number in _numbers(scene.population.readings):
        yield scene.get(f"Observation?identifier={quote(f'{OWN}|r-{number}', safe='')}")


def _by_device(scene: Scene) -> Iterator[bytes]:
    for number in _numbers(scene.population.patients):
        yield scene.get(f"Observation?device=Device/{scene.names.device(number)}&_count=20")


def _by_patient_identifier(scene: Scene) -> Iterator[bytes]:
    for number in _numbers(scene.population.patients):
        value = quote(f"{OWN}|patient-{number}", safe="")
        yield scene.get(f"Observation?patient.identifier={value}&code={_code(PRESSURE)}&_count=20")


def _in_ten_minutes(number: int) -> str:
    day = 1 + number % 28
    return (
        f"Observation?date=ge2024-01-{day:02d}T06:00:00Z"
        f"&date=lt2024-01-{day:02d}T06:10:00Z&_count=20"
    )


def _changes(scene: Scene) -> Iterator[bytes]:
    return itertools.repeat(scene.get(f"_history?_count=100&_since={quote(scene.since)}"))


def _single(scene: Scene) -> Iterator[bytes]:
    for number in scene.new:
        made = new_observation(number, scene.population, scene.names)
        yield scene.address.request("POST", "Observation", resource_json.format(made))


def _bundles(kind: str, size: int) -> Callable[[Scene], Iterator[bytes]]:
    def requests(scene: Scene) -> Iterator[bytes]:
        while True:
            entries = [
                {
                    "resource": new_observation(number, scene.population, scene.names),
                    "request": {"method": "POST", "url": "Observation"},
                }
                for number in itertools.islice(scene.new, size)
            ]
            bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
            yield scene.address.request("POST", "", json.dumps(bundle).encode())

    return requests


def _readings(scene: Scene) -> Iterator[bytes]:
    made = payloads(scene.population, scene.new)
    while True:
        body = b"\n".join(itertools.islice(made, BATCH)) + b"\n"
        yield scene.address.request("POST", "/readings/iot-hub", body, "application/x-ndjson")


_SEARCH = "Observation.search-type"
_HIGH_GLUCOSE = quote(f"ge{HIGH_GLUCOSE}|{UCUM}|mg/dL", safe="")

INGEST = Load(
    "readings, 500 a request", _readings, ("/readings",),
    weight=BATCH, is_write=True, is_right=lambda body: body["accepted"] == BATCH,
)  # fmt: skip
NEWEST = Load(
    "search: patient, code, date, newest 20", _of_patients(newest_path),
    (_SEARCH, "Observation?patient", "Observation?code", "Observation?date"),
    bare="bytes", aim=0.5, is_right=_has_entries,
)  # fmt: skip
# What is asked again and again is in memory: what is left is the depth of the indexes.
WARD = Load(
    "search: the same, of a ward of 50", _of_patients(newest_path, 50), NEWEST.needs,
    is_right=_has_entries,
)  # fmt: skip
READ = Load("read", _of_readings("Observation/{}"), ("Observation.read",), bare="kept", aim=0.7)


def _search(name: str, parameter: str, requests: Callable[[Scene], Iterator[bytes]]) -> Load:
    return Load(f"search: {name}", requests, (_SEARCH, parameter), is_right=_has_entries)


LOADS: tuple[Load, ...] = (
    READ,
    Load("vread", _of_readings("Observation/{}/_history/1"), ("Observation.vread",)),
    NEWEST,
    WARD,
    Load(
        "$lastn: newest of each code",
        _of_patients(
            lambda patient: f"Observation/$lastn?patient=Patient/{patient}&category=vital-signs"
        ),
        ("Observation$lastn",), is_right=_has_entries,
    ),
    Load(
        "search: _include patient and device",
        _of_patients(
            lambda patient: f"Observation?patient=Patient/{patient}&_sort=-date&_count=20"
            "&_include=Observation:patient&_include=Observation:device"
        ),
        (_SEARCH, "Observation?patient", "Observation+Observation:patient",
         "Observation+Observation:device"),
        is_right=_has_entries,
    ),
    _search("token", "Observation?code", _same(f"Observation?code={_code(GLUCOSE)}&_count=20")),
    _search("identifier", "Observation?identifier", _by_identifier),
    _search(
        "string", "Observation?value-string",
        _same(f"Observation?value-string={quote(RARE_IMPRESSION)}&_count=20"),
    ),
    Load(
        "search: string, Patient",
        _numbered(50, lambda number: f"Patient?family={family(number)}&_count=20"),
        ("Patient.search-type", "Patient?family"), is_right=_has_entries,
    ),
    _search("date", "Observation?date", _numbered(28, _in_ten_minutes)),
    _search(
        "quantity", "Observation?value-quantity",
        _same(f"Observation?value-quantity={_HIGH_GLUCOSE}&_count=20"),
    ),
    _search("reference", "Observation?device", _by_device),
    _search(
        "uri", "Observation?_source",
        _numbered(
            GATEWAYS, lambda n: f"Observation?_source={quote(f'{OWN}/gateway/{n}')}&_count=20"
        ),
    ),
    _search(
        "composite", "Observation?code-value-quantity",
        _same(f"Observation?code-value-quantity={_code(GLUCOSE)}$ge{HIGH_GLUCOSE}&_count=20"),
    ),
    _search(
        "composite of components", "Observation?component-code-value-quantity",
        _same(
            f"Observation?component-code-value-quantity={_code(SYSTOLIC)}"
            f"$ge{HIGH_SYSTOLIC}&_count=20"
        ),
    ),
    Load(
        "search: chained, identifier", _by_patient_identifier,
        (_SEARCH, "Observation?patient", "Observation?code", "Patient?identifier"),
        is_right=_has_entries,
    ),
    Load(
        "search: chained, string",
        _numbered(
            50,
            lambda number: f"Observation?patient:Patient.family={family(number)}"
            f"&code={_code(PRESSURE)}&_count=20",
        ),
        (_SEARCH, "Observation?patient", "Observation?code", "Patient?family"),
        is_right=_has_entries,
    ),
    Load(
        "search: page by page, 100 each",
        _same(f"Observation?code={_code(PRESSURE)}&_count=100"),
        (_SEARCH, "Observation?code"), follows=True, is_right=_has_entries,
    ),
    Load("change feed: page of 100", _changes, ("history-system",), is_right=_has_entries),
    Load(
        "change feed: page by page", _changes, ("history-system",),
        follows=True, is_right=_has_entries,
    ),
    Load(
        "create", _single, ("Observation.create",),
        status=201, is_write=True, bare="echo", aim=0.4,
    ),
    INGEST,
    Load(
        "batch Bundle of 500", _bundles("batch", BATCH), ("batch", "Observation.create"),
        weight=BATCH, is_write=True, is_right=_are_all_stored,
    ),
    Load(
        "transaction of 100", _bundles("transaction", 100), ("transaction", "Observation.create"),
        weight=100, is_write=True, is_right=_are_all_stored,
    ),
    Load(
        "transaction of 1,000", _bundles("transaction", 1_000),
        ("transaction", "Observation.create"),
        weight=1_000, is_write=True, is_right=_are_all_stored,
    ),
)  # fmt: skip
