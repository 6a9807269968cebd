"""What the audit trail costs: one server that keeps it and one that does not, loaded in turns.

Both are on one store, so that neither has the colder one; the turns are short, so that what
else the machine does meets both.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import filled, process
from bench.filled import Kind
from bench.http_load import Address
from bench.loads import INGEST, LOADS, NEWEST, READ, Load, Scene
from bench.measure import Pace, Target, Tell, measure, warm
from bench.readings import OWN_NAMES, Population
from bench.result import Comparison, Row

AIM = 0.85
TURNS = 6

_CREATE = next(load for load in LOADS if load.name == "create")
RECORDED = (READ, NEWEST, _CREATE, INGEST)


class _Turn(NamedTuple):
    """What a load came to in one turn; processor time is the server's and the database's."""

    row: Row
    per_second: float
    cpu: float


def name_of(load: Load) -> str:
    return f"on record: {load.name}"


def measure_recorded(
    kind: Kind,
    folder: Path,
    population: Population,
    pace: Pace,
    loads: tuple[Load, ...],
    tell: Tell,
) -> Iterator[Row]:
    """Each of `loads` at its most connections, against the same without a trail."""
    with ExitStack() as stack:
        store = stack.enter_context(filled.copy(kind, folder))
        targets = []
        for is_recording in (False, True):
            server = stack.enter_context(process.fhir_server(store.url, is_recording=is_recording))
            scene = Scene(Address.parse(f"{server.url}/fhir"), population, OWN_NAMES, "")
            targets.append(Target(store.kind, scene, server, store.database))
        # What is new is new to both.
        targets[1] = replace(targets[1], scene=replace(targets[1].scene, new=targets[0].scene.new))
        for load in loads:
            tell(f"{kind} {population.readings:,}: {name_of(load)}")
            for target in targets:
                warm(load, target, pace.seconds)
            connections = max(pace.of(load))
            turns: list[tuple[_Turn, _Turn]] = []
            for number in range(TURNS):
                # Whoever comes second meets a log that is longer: they take turns at that too.
                order = targets if number % 2 == 0 else targets[::-1]
                pair = [_turn(load, target, connections, pace.seconds) for target in order]
                turns.append((pair[0], pair[1]) if number % 2 == 0 else (pair[1], pair[0]))
            yield _compare(load, turns)


def _turn(load: Load, target: Target, connections: int, seconds: float) -> _Turn:
    row, _ = measure(load, target, connections, seconds)
    return _Turn(row, row.per_second, (row.server_cpu or 0.0) + (row.database_cpu or 0.0))


def _compare(load: Load, turns: list[tuple[_Turn, _Turn]]) -> Row:
    """The last turn's row; the ratios are medians over all turns."""
    row = turns[-1][1].row
    off = median(unrecorded.per_second for unrecorded, _ in turns)
    on = median(recorded.per_second for _, recorded in turns)
    cpu_off = median(unrecorded.cpu for unrecorded, _ in turns)
    cpu_on = median(recorded.cpu for _, recorded in turns)
    against = f"not recorded, {off:,.0f}/s, {1_000 * cpu_off:.0f} µs against {1_000 * cpu_on:.0f}"
    return replace(row, load=name_of(load), per_second=on).against(
        Comparison(
            against,
            median(recorded.per_second / other.per_second for other, recorded in turns),
            AIM,
            cpu_ratio=cpu_off / cpu_on if cpu_on else None,
        )
    )
