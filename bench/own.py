"""This server on its own stores: every load at every size, and what only we can ask of it."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import fill, filled, process, raw_lookups, raw_mongo, raw_sqlite, validate
from bench.delivery import deliver
from bench.filled import Kind, Store
from bench.http_load import Address, UnexpectedAnswer, reason
from bench.limits import set_limits
from bench.loads import BATCH, INGEST, LOADS, NEWEST, READ, WARD, Scene
from bench.measure import Pace, Target, Tell, measure, measure_all, warm
from bench.raw_sqlite import Raw
from bench.readings import OWN_NAMES, Population
from bench.recorded import RECORDED, measure_recorded, name_of
from bench.result import Comparison, Row, Skipped
from fhir_server.core.version import format_instant

RAW_AIM: dict[Kind, float] = {"sqlite": 0.25, "mongo": 0.4}
GROWTH_AIM = 1.1
SECOND_PROCESS_AIM = 1.6
JUDGED_AIM = 0.75


@dataclass(frozen=True)
class Plan:
    """What is run, and for how long."""

    stores: tuple[Kind, ...]
    sizes: tuple[int, ...]
    pace: Pace
    ingested: int
    grown: int
    burst: int
    only: tuple[str, ...]
    cache: Path

    def is_wanted(self, name: str) -> bool:
        return not self.only or any(word in name for word in self.only)


def measure_own(plan: Plan, tell: Tell) -> Iterator[Row | Skipped]:
    """The rows of the table, one after the other, as they come."""
    if plan.is_wanted(validate.NAME):
        tell(validate.NAME)
        yield from validate.measure_rows()
    for kind in plan.stores if needs_stores(plan) else ():
        for size in plan.sizes:
            population = Population(size)
            folder = _fill(kind, population, plan, tell)
            yield from _reads(kind, folder, population, plan, tell)
            yield from _writes(kind, folder, population, plan, tell)
        smallest = Population(min(plan.sizes))
        folder = _fill(kind, smallest, plan, tell)
        for size in sorted({min(plan.sizes), max(plan.sizes)}):
            population = Population(size)
            try:
                yield from _against_raw(
                    kind, _fill(kind, population, plan, tell), population, plan, tell
                )
            except (UnexpectedAnswer, OSError) as error:
                yield Skipped(kind, "raw inserts", reason(error))
        for name, measured in (
            ("judging", _judging(kind, folder, smallest, plan, tell)),
            ("on record", _recorded(kind, folder, smallest, plan, tell)),
            ("delivery", _delivery(kind, folder, smallest, plan, tell)),
            ("second process", _processes(kind, folder, smallest, plan, tell)),
            ("ingest memory", _growth(kind, plan, tell)),
        ):
            try:
                yield from measured
            except (UnexpectedAnswer, OSError) as error:
                yield Skipped(kind, name, reason(error))


def needs_stores(plan: Plan) -> bool:
    """Whether anything is wanted that is not measured in this process alone."""
    return not plan.only or any(word not in validate.NAME for word in plan.only)


def _fill(kind: Kind, population: Population, plan: Plan, tell: Tell) -> Path:
    end = fill.size(population)
    shares = iter(range(0, 101, 10))
    told = next(shares)

    def report(reached: int) -> None:
        nonlocal told
        if 100 * reached >= told * end:
            tell(f"{kind}: filling, {reached:,} of {end:,}")
            told = next(shares, 101)

    return filled.kept(kind, population, plan.cache, report)


@contextmanager
def _serving(
    store: Store,
    population: Population,
    *,
    workers: int = 1,
    is_delivering: bool = False,
    is_judging: bool = True,
) -> Iterator[Target]:
    with process.fhir_server(
        store.url, workers=workers, is_delivering=is_delivering, is_judging=is_judging
    ) as server:
        # Half of what is there has changed since.
        since = format_instant(fill.instant(fill.size(population) // 2))
        address = Address.parse(f"{server.url}/fhir")
        scene = Scene(address, population, OWN_NAMES, since)
        yield Target(store.kind, scene, server, store.database)


def _reads(
    kind: Kind, folder: Path, population: Population, plan: Plan, tell: Tell
) -> Iterator[Row | Skipped]:
    loads = [load for load in LOADS if not load.is_write and plan.is_wanted(load.name)]
    if not loads:
        return
    with filled.opened(kind, folder) as store, _serving(store, population) as target:
        raw = None
        if {READ, NEWEST} & set(loads):
            tell(f"{kind} {population.readings:,}: bare lookups")
            raw = raw_lookups.look_up(store, population)
        bare_lookups = {READ.name: raw.read, NEWEST.name: raw.newest} if raw else {}
        for row in measure_all(loads, target, plan.pace, tell, is_judged=True):
            looked = bare_lookups.get(row.load)
            if looked and isinstance(row, Row) and row.connections == 1:
                against = f"bare lookups, {looked:,.0f}/s"
                row = row.against(Comparison(against, row.per_second / looked))
            yield row


def _writes(
    kind: Kind, folder: Path, population: Population, plan: Plan, tell: Tell
) -> Iterator[Row | Skipped]:
    loads = [load for load in LOADS if load.is_write and plan.is_wanted(load.name)]
    if not loads:
        return
    with filled.copy(kind, folder) as store, _serving(store, population) as target:
        yield from measure_all(loads, target, plan.pace, tell, is_judged=True)


def _against_raw(
    kind: Kind, folder: Path, population: Population, plan: Plan, tell: Tell
) -> Iterator[Row]:
    """Readings in batches against the very rows of them, inserted by a bare loop."""
    name = f"{INGEST.name}, against raw inserts"
    if not plan.is_wanted(name):
        return
    tell(f"{kind}: {name}")
    with filled.copy(kind, folder) as store:
        with _serving(store, population) as target:
            warm(INGEST, target, plan.pace.seconds)
            after = _newest(store)
            row, _ = measure(INGEST, target, 8, 3_600, plan.ingested // BATCH)
        raws = list(_insert_again(store, after))
    names = ("raw inserts", "raw inserts into as large a collection")
    aims = (RAW_AIM[kind], None)
    yield replace(row, load=name).against(
        *(_against_inserts(row, *each) for each in zip(raws, names, aims, strict=False)),
        *([Comparison("5,000 a second", row.per_second / 5_000, 1.0)] if kind == "sqlite" else []),
    )


def _against_inserts(row: Row, raw: Raw, name: str, aim: float | None) -> Comparison:
    return Comparison(
        f"{name}, {raw.per_second:,.0f}/s of {raw.rows / raw.versions:.1f} rows",
        row.per_second / raw.per_second,
        aim,
        cpu_ratio=1_000 * raw.cpu / raw.versions / _cpu(row) if raw.cpu else None,
    )


def _judging(
    kind: Kind, folder: Path, population: Population, plan: Plan, tell: Tell
) -> Iterator[Row]:
    """Readings in batches of patients who all have limits, judged and not judged."""
    name = f"{INGEST.name}, judged"
    if not plan.is_wanted(name):
        return
    rows: list[Row] = []
    for is_judging in (False, True):
        tell(f"{kind}: {name}" if is_judging else f"{kind}: {INGEST.name}, not judged")
        with filled.copy(kind, folder) as store:
            with _serving(store, population, is_judging=is_judging) as target:
                set_limits(target.scene)
                warm(INGEST, target, plan.pace.seconds)
                rows.append(measure(INGEST, target, 8, 3_600, plan.ingested // BATCH)[0])
    unjudged, judged = rows
    yield replace(judged, load=name).against(
        Comparison(
            f"not judged, {unjudged.per_second:,.0f}/s",
            judged.per_second / unjudged.per_second,
            JUDGED_AIM,
            cpu_ratio=(unjudged.server_cpu or 0.0) / (judged.server_cpu or 1.0),
        )
    )


def _recorded(
    kind: Kind, folder: Path, population: Population, plan: Plan, tell: Tell
) -> Iterator[Row]:
    """Loads with every access on record, against the same without."""
    loads = tuple(load for load in RECORDED if plan.is_wanted(name_of(load)))
    if loads:
        yield from measure_recorded(kind, folder, population, plan.pace, loads, tell)


def _newest(store: Store) -> int:
    if store.kind == "sqlite":
        return raw_sqlite.newest(store.folder / "fhir.db")
    return raw_mongo.newest(store.url)


def _insert_again(store: Store, after: int) -> Iterator[Raw]:
    """On MongoDB also beside themselves, last: that spoils the store."""
    if store.database is None:
        yield raw_sqlite.insert_again(store.folder / "fhir.db", after, store.folder / "raw.db")
        return
    yield raw_mongo.insert_again(store.url, after, store.database)
    yield raw_mongo.insert_beside(store.url, after, store.database)


def _delivery(
    kind: Kind, folder: Path, population: Population, plan: Plan, tell: Tell
) -> Iterator[Row]:
    if not plan.is_wanted("delivery"):
        return
    tell(f"{kind}: delivery")
    with filled.copy(kind, folder) as store:
        with _serving(store, population, is_delivering=True) as target:
            yield from deliver(target, plan.burst)


def _processes(
    kind: Kind, folder: Path, population: Population, plan: Plan, tell: Tell
) -> Iterator[Row]:
    """Reads by one process and by two, one right after the other."""
    loads = [load for load in (READ, NEWEST) if plan.is_wanted("second process")]
    connections = max(plan.pace.connections)
    alone: dict[str, Row] = {}
    for workers, load in itertools.product((1, 2), loads):
        tell(f"{kind}: {load.name}, {workers} processes")
        with filled.opened(kind, folder) as store:
            with _serving(store, population, workers=workers) as target:
                warm(load, target, plan.pace.seconds)
                row, _ = measure(load, target, connections, plan.pace.seconds)
        if workers == 1:
            alone[load.name] = row
            continue
        one = alone[load.name].per_second
        name = f"second process: {load.name}"
        yield replace(row, load=name).against(
            Comparison(f"one process, {one:,.0f}/s", row.per_second / one, SECOND_PROCESS_AIM)
        )


def _growth(kind: Kind, plan: Plan, tell: Tell) -> Iterator[Row]:
    """The server's memory over a long run of readings: a fifth of it to warm, then flat."""
    name = f"ingest memory over {plan.grown:,} readings"
    if not plan.grown or not plan.is_wanted(name):
        return
    with tempfile.TemporaryDirectory(prefix="fhir-bench-", dir=plan.cache) as scratch:
        with filled.opened(kind, Path(scratch)) as store:
            population = Population(10_000)
            fill.fill(store.url, Population(0), lambda _: None)
            with _serving(store, population) as target:
                rows = []
                for tenth in range(1, 11):
                    tell(f"{kind}: {name}, {tenth} of 10")
                    requests = plan.grown // BATCH // 10
                    rows.append(measure(INGEST, target, 8, 3_600, requests)[0])
    held = [row.server_megabytes or 0.0 for row in rows]
    yield replace(rows[-1], load=name, readings=plan.grown).against(
        Comparison(
            f"{held[1]:.0f} MB after a fifth, {held[4]:.0f} after half",
            held[-1] / held[1],
            GROWTH_AIM,
            is_ceiling=True,
        )
    )


def larger_against_smaller(rows: list[Row]) -> list[Row]:
    """The rows, the searches of a patient's newest compared with the smallest size."""
    compared = []
    for row in rows:
        alike = [
            other
            for other in rows
            if (other.store, other.load, other.connections) == (row.store, row.load, 1)
            and other.load in (NEWEST.name, WARD.name)
        ]
        smallest = min(alike, key=lambda other: other.readings, default=None)
        if smallest and row in alike and row.readings > smallest.readings:
            against = f"p50 at {smallest.readings:,}: {smallest.p50:.2f} ms"
            ratio, before = row.p50 / smallest.p50, _cpu(smallest)
            cpu_ratio = _cpu(row) / before if before else None
            row = row.against(Comparison(against, ratio, 1.5, is_ceiling=True, cpu_ratio=cpu_ratio))
        compared.append(row)
    return compared


def _cpu(row: Row) -> float:
    return (row.server_cpu or 0.0) + (row.database_cpu or 0.0)
