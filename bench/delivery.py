"""Delivery to a receiver: what an R4 rest-hook Subscription is told, how fast, how late."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests as http

from bench import process
from bench.http_load import FHIR_JSON, UnexpectedAnswer, in_turn, run
from bench.loads import Scene
from bench.measure import Target
from bench.process import Process
from bench.readings import LOINC, PRESSURE, new_observation
from bench.result import Row
from fhir_server.core import resource_json

NEEDS = ("Subscription.create", "Subscription.read", "Observation.create")

_PATIENCE = 120.0
_EACH = 50
_PAUSE = 0.03


def deliver(target: Target, burst: int) -> Iterator[Row]:
    """Notifications one at a time, then so many readings at once over 8 connections."""
    with process.receiver() as receiver:
        with _subscribed(target.scene, receiver):
            yield _one_at_a_time(target, receiver)
            yield _burst(target, receiver, burst)


@contextmanager
def _subscribed(scene: Scene, receiver: Process) -> Iterator[None]:
    headers = {"Content-Type": FHIR_JSON, "Accept": FHIR_JSON, **_headers(scene)}
    subscription = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "a benchmark",
        "criteria": f"Observation?code={LOINC}|{PRESSURE}",
        "channel": {"type": "rest-hook", "endpoint": receiver.url, "payload": FHIR_JSON},
    }
    url = f"{scene.address.url}/Subscription"
    made = http.post(url, json=subscription, headers=headers, timeout=30)
    if made.status_code != 201:
        raise UnexpectedAnswer(f"Subscription: {made.status_code} {made.text[:300]}")
    location = made.headers["Location"].split("/_history/")[0]
    url = f"{url}/{location.rsplit('/', 1)[-1]}"
    try:
        _until(lambda: _status(url, headers) == "active")
        yield
    finally:
        http.delete(url, headers=headers, timeout=30)


def _status(url: str, headers: dict[str, str]) -> str:
    return str(http.get(url, headers=headers, timeout=30).json().get("status"))


def _headers(scene: Scene) -> dict[str, str]:
    lines = scene.address.headers.strip().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _one_at_a_time(target: Target, receiver: Process) -> Row:
    _reset(receiver)
    for request in itertools.islice(_creates(target.scene), _EACH):
        run(target.scene.address, in_turn(iter([request])), 1).check(201)
        time.sleep(_PAUSE)
    return _row(target, "delivery: one at a time", 1, _await(receiver, _EACH))


def _burst(target: Target, receiver: Process, number: int) -> Row:
    _reset(receiver)
    started = time.time()
    creates = list(itertools.islice(_creates(target.scene), number))
    run(target.scene.address, in_turn(iter(creates)), 8).check(201)
    counts = _await(receiver, number)
    return _row(target, f"delivery: burst of {number:,}", 8, counts | {"first": started})


def _creates(scene: Scene) -> Iterator[bytes]:
    for number in scene.new:
        made = new_observation(number, scene.population, scene.names)
        yield scene.address.request("POST", "Observation", resource_json.format(made))


def _row(target: Target, name: str, connections: int, counts: dict[str, Any]) -> Row:
    server, database = target.server, target.database
    return Row(
        target.name,
        target.scene.population.readings,
        name,
        connections,
        counts["received"] / (counts["last"] - counts["first"]),
        p50=1_000 * counts["p50"],
        p95=1_000 * counts["p95"],
        p99=1_000 * counts["p99"],
        server_megabytes=server.resident_bytes() / 2**20 if server else None,
        database_megabytes=database.resident_bytes() / 2**20 if database else None,
        note="from commit to arrival",
    )


def _reset(receiver: Process) -> None:
    http.post(f"{receiver.url}/reset", timeout=10).raise_for_status()


def _await(receiver: Process, number: int) -> dict[str, Any]:
    counts: dict[str, Any] = {}

    def is_there() -> bool:
        counts.update(json.loads(http.get(f"{receiver.url}/counts", timeout=10).content))
        return int(counts["received"]) >= number

    _until(is_there)
    return counts


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > until:
            raise UnexpectedAnswer("not every notification arrived in two minutes")
        time.sleep(0.05)
