"""`make bench`: runs the scenarios, prints one table, keeps the figures as JSON."""

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import scenarios

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", help="scenarios by name, separated by commas")
    parser.add_argument("--readings", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    arguments = parser.parse_args()
    runs: dict[str, Callable[[], scenarios.Result]] = {
        "ingest": lambda: scenarios.ingest(arguments.readings),
        "create": lambda: scenarios.create(arguments.requests),
        "read": lambda: scenarios.read(arguments.requests * 2),
        "page": lambda: scenarios.page(arguments.small, arguments.requests),
        "search": lambda: scenarios.search(arguments.small, arguments.large, 2_000),
    }
    wanted = arguments.only.split(",") if arguments.only else list(runs)
    console = Console(width=160)
    results = []
    for name in wanted:
        console.print(f"{name} …")
        results.append(runs[name]())
    table = Table("what", "this server", "yardstick", "ratio", "aim", "met")
    for result in results:
        sign = "≤" if result.is_ceiling else "≥"
        table.add_row(
            result.name, result.ours, result.yardstick, f"{result.ratio:.2f}",
            f"{sign} {result.aim}", "yes" if result.is_met else "no",
        )  # fmt: skip
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    figures = {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "results": [asdict(result) | {"is_met": result.is_met} for result in results],
    }
    (RESULTS / "latest.json").write_text(json.dumps(figures, indent=2), "utf-8")
    return 0


sys.exit(main())
