"""What is measured, each against its yardstick in the same run."""

import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests

from bench import fill, http_load, process
from bench.raw_rows import BATCH, raw_seconds
from fhir_server.app import open_components
from fhir_server.core import resource_json
from fhir_server.settings import Settings

CONNECTIONS = 8
PATIENTS = 200
SYSTEM = "https://pmp.example/fhir/bench"


@dataclass(frozen=True)
class Result:
    """One line of the table. `ratio` is ours against the yardstick; `aim` what it should be.

    Where `is_ceiling`, less is better: a latency against another.
    """

    name: str
    ours: str
    yardstick: str
    ratio: float
    aim: float
    is_ceiling: bool = False

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.aim if self.is_ceiling else self.ratio >= self.aim


def latencies(load: http_load.Load) -> str:
    parts = (f"p{int(s * 100)} {load.percentile(s) * 1000:.1f}" for s in (0.5, 0.95, 0.99))
    return " ".join(parts) + " ms"


def _enrol(base: str) -> None:
    """A patient, a device and its assignment each, in one transaction."""
    entries = []
    for number in range(PATIENTS):
        resources = (
            {"resourceType": "Patient", "id": f"p{number}"},
            {
                "resourceType": "Device",
                "id": f"d{number}",
                "identifier": [{"system": SYSTEM, "value": f"cuff-{number}"}],
            },
            {
                "resourceType": "DeviceUseStatement",
                "id": f"u{number}",
                "status": "active",
                "subject": {"reference": f"Patient/p{number}"},
                "device": {"reference": f"Device/d{number}"},
                "timingPeriod": {"start": "2020-01-01"},
            },
        )
        for resource in resources:
            url = f"{resource['resourceType']}/{resource['id']}"
            entries.append({"resource": resource, "request": {"method": "PUT", "url": url}})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = requests.post(f"{base}/fhir/", json=bundle, timeout=60)
    answer.raise_for_status()


def _payloads(first: int) -> Iterator[bytes]:
    """Platform-style blood pressures without end, patients taking turns."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for number in itertools.count(first):
        taken = start + timedelta(seconds=number)
        yield json.dumps(
            {
                "type": "Blood Pressure",
                "time": taken.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "device": f"cuff-{number % PATIENTS}",
                "values": {"systolic": 110 + number % 40, "diastolic": 70 + number % 20},
            }
        ).encode()


def _batches(count: int) -> Iterator[bytes]:
    payloads = _payloads(0)
    for _ in range(count):
        body = b"\n".join(itertools.islice(payloads, BATCH)) + b"\n"
        yield http_load.request("POST", "/readings/iot-hub", body, "application/x-ndjson")


def ingest(readings: int) -> Result:
    """Readings a second, durable, against the same rows inserted by a bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "ours.db"
        with process.fhir_server(f"sqlite:///{stored}") as server:
            _enrol(f"http://127.0.0.1:{server.port}")
            before = server.resident_bytes()
            requests_to_send = list(_batches(readings // BATCH))
            load = http_load.run(server.port, iter(requests_to_send), CONNECTIONS).check(200)
            grown = (server.resident_bytes() - before) / 2**20
        versions, rows, seconds = raw_seconds(stored, Path(folder) / "raw.db")
    ours = readings / load.seconds
    raw = versions / seconds
    return Result(
        "ingest, batches of 500",
        f"{ours:,.0f} readings/s, {latencies(load)}, memory +{grown:.0f} MB",
        f"{raw:,.0f}/s bare inserts of {rows / versions:.1f} rows each",
        ours / raw,
        0.25,
    )


def create(count: int) -> Result:
    """Single validated durable POSTs against a bare route that parses and returns the JSON."""
    bodies = [resource_json.format(fill.observation(number)) for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        with process.fhir_server(f"sqlite:///{folder}/ours.db") as server:
            ours = http_load.run(
                server.port,
                (http_load.request("POST", "/fhir/Observation", body) for body in bodies),
                32,
            ).check(201)
    with process.bare_server() as bare:
        yardstick = http_load.run(
            bare.port,
            (http_load.request("POST", "/echo", body, "application/json") for body in bodies),
            32,
        ).check(201)
    return _against("POST Observation", ours, yardstick, 0.4)


def read(count: int) -> Result:
    """Reads of one resource against a bare route that returns the same JSON."""
    body = resource_json.format({**fill.observation(1), "id": "o1"})
    with tempfile.TemporaryDirectory() as folder:
        with process.fhir_server(f"sqlite:///{folder}/ours.db") as server:
            url = f"http://127.0.0.1:{server.port}/fhir/Observation/o1"
            requests.put(
                url, body, headers={"Content-Type": "application/fhir+json"}, timeout=30
            ).raise_for_status()
            request = http_load.request("GET", "/fhir/Observation/o1")
            ours = http_load.run(server.port, itertools.repeat(request, count), 32).check(200)
    with process.bare_server() as bare:
        requests.put(f"http://127.0.0.1:{bare.port}/kept", body, timeout=30).raise_for_status()
        request = http_load.request("GET", "/kept/o1")
        yardstick = http_load.run(bare.port, itertools.repeat(request, count), 32).check(200)
    return _against("read", ours, yardstick, 0.7)


_NEWEST = (
    "/fhir/Observation?patient=Patient/{patient}&code=http://loinc.org|85354-9"
    "&date=ge2024-01-01&_sort=-date&_count=20"
)


def page(small: int, count: int) -> Result:
    """The newest 20 of one patient and code against a bare route that returns those bytes."""
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/ours.db"
        _fill(store, small)
        with process.fhir_server(store) as server:
            url = f"http://127.0.0.1:{server.port}{_NEWEST.format(patient=fill.patient_id(1))}"
            body = requests.get(url, timeout=30).content
            paths = (_NEWEST.format(patient=fill.patient_id(n % 50)) for n in range(count))
            wanted = (http_load.request("GET", path) for path in paths)
            ours = http_load.run(server.port, wanted, 32).check(200)
    with process.bare_server() as bare:
        requests.put(f"http://127.0.0.1:{bare.port}/kept", body, timeout=30).raise_for_status()
        request = http_load.request("GET", "/bytes/o1")
        yardstick = http_load.run(bare.port, itertools.repeat(request, count), 32).check(200)
    return _against(f"search, page of 20, {len(body) // 1024} KiB", ours, yardstick, 0.5)


def search(small: int, large: int, count: int) -> Result:
    """The newest 20 of one patient and code: a large store against a small one."""
    loads: list[http_load.Load] = []
    for size in (small, large):
        with tempfile.TemporaryDirectory() as folder:
            store = f"sqlite:///{folder}/ours.db"
            _fill(store, size)
            with process.fhir_server(store) as server:
                patients = itertools.cycle(range(50))
                wanted = (
                    http_load.request("GET", _NEWEST.format(patient=fill.patient_id(patient)))
                    for patient in itertools.islice(patients, count)
                )
                loads.append(http_load.run(server.port, wanted, 1).check(200))
    ours, yardstick = loads[1], loads[0]
    return Result(
        f"search, {large:,} Observations",
        latencies(ours),
        f"{latencies(yardstick)} at {small:,}",
        ours.percentile(0.5) / yardstick.percentile(0.5),
        1.5,
        is_ceiling=True,
    )


def _fill(store: str, size: int) -> None:
    components = open_components(Settings(store=store))
    fill.fill(components, 0, size)


def _against(name: str, ours: http_load.Load, yardstick: http_load.Load, aim: float) -> Result:
    return Result(
        name,
        f"{ours.per_second:,.0f}/s, {latencies(ours)}",
        f"{yardstick.per_second:,.0f}/s, {latencies(yardstick)}",
        ours.per_second / yardstick.per_second,
        aim,
    )
