"""Any FHIR R4 server by its URL: its own patients and readings over REST, then the same loads.

Only standard interactions, and only those that its CapabilityStatement declares. What is
created stays there: use a server that is made for this.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import requests as http

from bench import delivery
from bench.declared import declared, missing
from bench.delivery import deliver
from bench.http_load import FHIR_JSON, Address, UnexpectedAnswer, reason
from bench.loads import LOADS, Load, Scene
from bench.measure import Pace, Target, Tell, measure_all
from bench.readings import Names, Population, device, observation, patient
from bench.result import Row, Skipped

_BUNDLE = 100
_TIMEOUT = 300
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class OtherServer:
    """A server that is known by its URL; `name` stands in the table."""

    def __init__(self, url: str, headers: tuple[str, ...], tell: Tell) -> None:
        self.address = Address.parse(url, headers)
        self.name = self.address.host
        self._tell = tell
        self._http = http.Session()
        self._http.headers.update({"Accept": FHIR_JSON, "Content-Type": FHIR_JSON})
        self._http.headers.update(dict(_header(line) for line in headers))
        statement = self._answer("GET", "metadata", None, 200)
        self.declared = declared(statement.json())

    def fill(self, population: Population) -> Scene:
        """Create the population, by Bundles where the server takes them."""
        patients: list[str] = []
        devices: list[str] = []
        readings: list[str] = []
        names = Names(patients.__getitem__, devices.__getitem__, readings.__getitem__)
        numbers = range(population.patients)
        self._create(patients, (patient(n) for n in numbers), population.patients)
        self._create(devices, (device(n, names) for n in numbers), population.patients)
        half = population.readings // 2
        made = (observation(n, population, names) for n in range(population.readings))
        self._create(readings, made, half)
        since = datetime.now(UTC).isoformat(timespec="milliseconds")  # noqa: TID251
        self._create(readings, made, population.readings - half)
        return Scene(self.address, population, names, since.replace("+00:00", "Z"))

    def _create(self, ids: list[str], resources: Iterator[dict[str, Any]], number: int) -> None:
        kind = next((kind for kind in ("batch", "transaction") if kind in self.declared), None)
        for first in range(0, number, _BUNDLE):
            chunk = [next(resources) for _ in range(min(_BUNDLE, number - first))]
            name = chunk[0]["resourceType"]
            self._tell(f"{self.name}: creating {name}, {first:,} of {number:,}")
            locations = self._bundle(kind, chunk) if kind else map(self._single, chunk)
            ids.extend(location.split("/_history/")[0].rsplit("/", 1)[-1] for location in locations)

    def _bundle(self, kind: str, resources: list[dict[str, Any]]) -> Iterator[str]:
        entries = [
            {"resource": made, "request": {"method": "POST", "url": made["resourceType"]}}
            for made in resources
        ]
        bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
        for entry in self._answer("POST", "", bundle, 200).json()["entry"]:
            response = entry["response"]
            if not response["status"].startswith("201"):
                raise UnexpectedAnswer(f"an entry was not created: {json.dumps(response)[:300]}")
            yield response["location"]

    def _single(self, resource: dict[str, Any]) -> str:
        return self._answer("POST", resource["resourceType"], resource, 201).headers["Location"]

    def _answer(self, method: str, path: str, body: Any, status: int) -> http.Response:
        url = f"{self.address.url}/{path}".rstrip("/")
        sent = None if body is None else json.dumps(body)
        answer = self._http.request(method, url, data=sent, timeout=_TIMEOUT)
        if answer.status_code != status:
            raise UnexpectedAnswer(
                f"{method} {path or '/'}: {answer.status_code} {answer.text[:300]}"
            )
        return answer


def measure_other(
    server: OtherServer,
    population: Population,
    pace: Pace,
    burst: int,
    is_wanted: Callable[[str], bool],
    tell: Tell,
) -> Iterator[Row | Skipped]:
    """The rows of the table; what is not declared, or answered wrongly, is skipped."""
    loads: list[Load] = []
    for load in (load for load in LOADS if is_wanted(load.name)):
        lacking = missing(load.needs, server.declared)
        if lacking:
            yield Skipped(server.name, load.name, f"not declared: {', '.join(lacking)}")
        else:
            loads.append(load)
    target = Target(server.name, server.fill(population))
    yield from measure_all(loads, target, pace, tell, is_judged=False)
    if is_wanted("delivery"):
        yield from _delivered(server, target, burst, tell)


def _delivered(
    server: OtherServer, target: Target, burst: int, tell: Tell
) -> Iterator[Row | Skipped]:
    lacking = missing(delivery.NEEDS, server.declared)
    if lacking:
        yield Skipped(server.name, "delivery", f"not declared: {', '.join(lacking)}")
    elif server.address.host not in _LOOPBACK:
        yield Skipped(server.name, "delivery", "it cannot reach a receiver on this machine")
    else:
        tell(f"{server.name}: delivery")
        try:
            yield from deliver(target, burst)
        except (UnexpectedAnswer, OSError) as error:
            yield Skipped(server.name, "delivery", reason(error))


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()
