"""`make bench`: runs the loads, prints one table, keeps the figures as JSON."""

import argparse
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from bench import report
from bench.http_load import UnexpectedAnswer
from bench.measure import Pace
from bench.other import OtherServer, measure_other
from bench.own import Plan, larger_against_smaller, measure_own
from bench.readings import Population
from bench.result import Row, Skipped

_ROOT = Path(__file__).parent.parent
_STORES = ("sqlite", "mongo")
_RESULTS = Path(__file__).parent / "results"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part.replace("_", "")) for part in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure this server on its stores, or another one by its URL.",
    )
    parser.add_argument("--full", action="store_true", help="10,000 and 1,000,000 readings, longer")
    parser.add_argument("--huge", action="store_true", help="5,000,000 readings too")
    parser.add_argument("--url", help="another FHIR server's base, http://host/fhir")
    parser.add_argument("--header", action="append", default=[], help="sent along to --url")
    parser.add_argument("--only", type=_words, default=(), help="loads with these words, by commas")
    parser.add_argument("--stores", type=_words, default=_STORES)
    parser.add_argument("--sizes", type=_numbers, help="readings in the store, by commas")
    parser.add_argument("--connections", type=_numbers, help="at once, by commas")
    parser.add_argument("--seconds", type=float, help="for each load")
    parser.add_argument("--ingested", type=int, help="readings set against raw inserts")
    parser.add_argument("--grown", type=int, help="readings over which memory is watched")
    parser.add_argument("--burst", type=int, help="readings that are delivered at once")
    parser.add_argument(
        "--cache", type=Path, default=_ROOT / "data" / "bench", help="filled stores"
    )
    parser.add_argument("--output", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.stores) - set(_STORES):
        parser.error(f"no store is called {', '.join(sorted(unknown))}")
    return arguments


def _plan(arguments: argparse.Namespace) -> Plan:
    """The quick profile or the full one, and what was asked for in its place."""
    full = arguments.full or arguments.huge
    sizes = arguments.sizes or ((10_000, 1_000_000) if full else (10_000, 100_000))
    if arguments.huge:
        sizes = (*sizes, 5_000_000)
    connections = arguments.connections or ((1, 8, 64) if full else (1, 64))
    return Plan(
        stores=arguments.stores,
        sizes=sizes,
        pace=Pace(
            seconds=arguments.seconds or (2.0 if full else 1.0),
            connections=connections,
            bulk_connections=tuple(n for n in connections if n < 64) or connections,
        ),
        ingested=arguments.ingested or (100_000 if full else 20_000),
        grown=arguments.grown if arguments.grown is not None else (1_000_000 if full else 50_000),
        burst=arguments.burst or (5_000 if full else 1_000),
        only=arguments.only,
        cache=arguments.cache,
    )


def main() -> int:
    arguments = _arguments()
    # Stopped in any way, it stops what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    began = time.monotonic()

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {what}", markup=False)

    plan = _plan(arguments)
    rows: list[Row] = []
    skipped: list[Skipped] = []
    profile = "full" if arguments.full or arguments.huge else "quick"
    output = arguments.output or _RESULTS / ("other.json" if arguments.url else "latest.json")
    try:
        if arguments.url:
            other = OtherServer(arguments.url, tuple(arguments.header), tell)
            population = Population(min(arguments.sizes or (10_000,)))
            found = measure_other(other, population, plan.pace, plan.burst, plan.is_wanted, tell)
        else:
            plan.cache.mkdir(parents=True, exist_ok=True)
            found = measure_own(plan, tell)
        for each in found:
            if isinstance(each, Row):
                rows.append(each)
            else:
                skipped.append(each)
    except UnexpectedAnswer as error:
        console.print(f"bench: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: stopped", style="red")
        return 130
    finally:
        if rows:
            rows = larger_against_smaller(rows)
            report.show(Console(width=None if sys.stdout.isatty() else 220), rows, skipped)
            report.save(output, rows, skipped, profile)
            console.print(f"The figures are in {output}.")
    return 0


sys.exit(main())
