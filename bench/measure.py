"""Runs one load against one server and counts what it took."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import requests as http

from bench.http_load import (
    Address,
    Measured,
    Script,
    UnexpectedAnswer,
    in_turn,
    page_by_page,
    reason,
    run,
)
from bench.loads import Load, Scene
from bench.process import Process, bare_server
from bench.result import Comparison, Row, Skipped, milliseconds

# Made before the clock runs, so that making them takes nothing from the server: so many
# different reads, and writes enough for the fastest server.
_READS = 5_000
_WRITES_PER_SECOND = 8_000
_WARM_SECONDS = 0.3
# Seconds for which so many requests at once may keep a server busy.
_LONGEST_TURN = 20.0

Tell = Callable[[str], None]


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


def measure_all(
    loads: Iterable[Load], target: Target, pace: Pace, tell: Tell, *, is_judged: bool
) -> Iterator[Row | Skipped]:
    """Each load at each number of connections, and beside its bare route.

    With `is_judged` the ratio at the most connections is held against its aim.
    """
    with bare_server() as bare:
        for load in loads:
            tell(f"{target.name} {target.scene.population.readings:,}: {load.name}")
            try:
                yield from _measure_one(load, target, pace, bare, is_judged=is_judged)
            except (UnexpectedAnswer, OSError) as error:
                yield Skipped(target.name, load.name, reason(error))


def _measure_one(
    load: Load, target: Target, pace: Pace, bare: Process, *, is_judged: bool
) -> Iterator[Row | Skipped]:
    warm(load, target, pace.seconds)
    connections = pace.of(load)
    longest = 0.0
    for number in connections:
        if longest * number > _LONGEST_TURN:
            yield Skipped(target.name, load.name, f"too slow for {number} connections")
            return
        row, measured = measure(load, target, number, pace.seconds)
        longest = measured.percentile(0.5) / number
        if load.bare:
            aim = load.aim if is_judged and number == max(connections) else None
            row = row.against(compare(load, target.scene, row, measured, bare, pace.seconds, aim))
        yield row


def warm(load: Load, target: Target, seconds: float) -> None:
    """Ask once, look whether the answer is right, and go on for a moment.

    Raises:
        UnexpectedAnswer: it is not: what is fast and wrong is no result.
    """
    requests = load.requests(target.scene)
    once = in_turn(itertools.islice(requests, 1))
    first = run(target.scene.address, once, 1).check(load.status)
    if not load.is_right(json.loads(first.body or b"{}")):
        said = first.body[:300].decode(errors="replace")
        raise UnexpectedAnswer(f"not what the load asks for: {said}")
    if not load.is_write:
        run(target.scene.address, in_turn(requests), 4, min(seconds, _WARM_SECONDS)).check(
            load.status
        )


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
    aim: float | None,
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
        aim,
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
