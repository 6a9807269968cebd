"""Runs one load against one server and counts what it took."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass

import requests as http

from bench.http_load import Address, Measured, Script, UnexpectedAnswer, in_turn, page_by_page, run
from bench.loads import Load, Scene
from bench.process import Process
from bench.result import Comparison, Row, milliseconds

# Made before the clock runs, so that making them takes nothing from the server: so many
# different reads, and writes enough for the fastest server.
_READS = 5_000
_WRITES_PER_SECOND = 8_000
_WARM_SECONDS = 0.3


@dataclass(frozen=True)
class Target:
    """A server with a scene in it, and its processes where they are on this machine."""

    name: str
    scene: Scene
    server: Process | None = None
    database: Process | None = None


@dataclass(frozen=True)
class Pace:
    """How long a load runs, at which numbers of connections."""

    seconds: float
    connections: tuple[int, ...]
    bulk_connections: tuple[int, ...]

    def of(self, load: Load) -> tuple[int, ...]:
        return self.bulk_connections if load.weight > 1 else self.connections


def warm(load: Load, target: Target) -> None:
    """Ask once, look whether the answer is right, and go on for a moment.

    Raises:
        UnexpectedAnswer: it is not: what is fast and wrong is no result.
    """
    requests = load.requests(target.scene)
    once = in_turn(itertools.islice(requests, 1))
    first = run(target.scene.address, once, 1).check(load.status)
    if not load.is_right(json.loads(first.body or b"{}")):
        raise UnexpectedAnswer(f"{load.name}: {first.body[:300].decode(errors='replace')}")
    if not load.is_write:
        run(target.scene.address, in_turn(requests), 4, _WARM_SECONDS).check(load.status)


def measure(
    load: Load, target: Target, connections: int, seconds: float, most: int | None = None
) -> tuple[Row, Measured]:
    """Run `load` for so long, or for `most` requests."""
    script = _script(load, target.scene, connections, seconds, most)
    before = _cpu(target.server), _cpu(target.database)
    measured = run(target.scene.address, script, connections, seconds)
    measured.check(load.status)
    after = _cpu(target.server), _cpu(target.database)
    number = measured.requests * load.weight
    row = Row(
        target.name,
        target.scene.population.readings,
        load.name,
        connections,
        number / measured.seconds,
        *milliseconds(measured),
        server_cpu=1_000 * (after[0] - before[0]) / number if target.server else None,
        database_cpu=1_000 * (after[1] - before[1]) / number if target.database else None,
        server_megabytes=_megabytes(target.server),
        database_megabytes=_megabytes(target.database),
    )
    return row, measured


def compare(
    load: Load,
    scene: Scene,
    row: Row,
    measured: Measured,
    bare: Process,
    seconds: float,
    *,
    is_judged: bool,
) -> Comparison:
    """The same on a bare FastAPI route that is sent, or answers, as many bytes.

    `row` and `measured` are what `measure` gave.
    """
    address = Address.parse(bare.url)
    if load.bare == "echo":
        sent = next(load.requests(scene)).partition(b"\r\n\r\n")[2]
        request = address.request("POST", "/echo", sent, "application/json")
    else:
        http.put(f"{bare.url}/kept", measured.body, timeout=30).raise_for_status()
        request = address.request("GET", f"/{load.bare}/1")
    before = bare.cpu_seconds()
    yardstick = run(address, in_turn(itertools.repeat(request)), row.connections, seconds)
    yardstick.check(load.status)
    cpu = 1_000 * (bare.cpu_seconds() - before) / yardstick.requests
    return Comparison(
        f"bare route, {yardstick.per_second:,.0f}/s",
        row.per_second / yardstick.per_second,
        load.aim if is_judged else None,
        cpu_ratio=cpu / row.server_cpu if row.server_cpu else None,
    )


def _script(
    load: Load, scene: Scene, connections: int, seconds: float, most: int | None
) -> Callable[[], Script]:
    requests = load.requests(scene)
    if load.follows:
        return page_by_page(scene.address, next(requests))
    if most is not None:
        return in_turn(iter(list(itertools.islice(requests, most))))
    if not load.is_write:
        return in_turn(itertools.cycle(list(itertools.islice(requests, _READS))))
    number = connections + int(seconds * _WRITES_PER_SECOND / load.weight)
    return in_turn(iter(list(itertools.islice(requests, number))))


def _cpu(process: Process | None) -> float:
    return process.cpu_seconds() if process else 0.0


def _megabytes(process: Process | None) -> float | None:
    return process.resident_bytes() / 2**20 if process else None
