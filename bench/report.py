"""The table on the terminal and the figures as JSON."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.result import Comparison, Row, Skipped


def show(console: Console, rows: Sequence[Row], skipped: Sequence[Skipped]) -> None:
    """One table, a section for each store and size; then what was skipped."""
    table = Table("store", "readings", "load", box=None, header_style="bold")
    for name in ("conn.", "a second", "p50 ms", "p95", "p99", "CPU ms", "+ database", "MB"):
        table.add_column(name, justify="right")
    table.add_column("+ database", justify="right")
    table.add_column("against")
    before = None
    for row in rows:
        section = (row.store, row.readings)
        if before not in (None, section):
            table.add_section()
        store, readings = ("", "") if section == before else (row.store, f"{row.readings:,}")
        before = section
        table.add_row(
            store,
            readings,
            row.load,
            str(row.connections),
            f"{row.per_second:,.0f}",
            *(f"{value:,.1f}" for value in (row.p50, row.p95, row.p99)),
            _figure(row.server_cpu, 2),
            _figure(row.database_cpu, 2),
            _figure(row.server_megabytes, 0),
            _figure(row.database_megabytes, 0),
            "\n".join((*map(_compared, row.comparisons), *([row.note] if row.note else []))),
        )
    console.print(table)
    for each in skipped:
        console.print(
            f"skipped: {each.store}, {each.load} ({each.reason})", markup=False, highlight=False
        )


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _compared(comparison: Comparison) -> str:
    said = f"{comparison.ratio:.2f} of {comparison.against}"
    if comparison.cpu_ratio is not None:
        said += f" (by CPU {comparison.cpu_ratio:.2f})"
    if comparison.aim is not None:
        sign = "≤" if comparison.is_ceiling else "≥"
        color = "green" if comparison.is_met else "red"
        met = "met" if comparison.is_met else "not met"
        said += f", [{color}]aim {sign} {comparison.aim}: {met}[/]"
    return said


def save(path: Path, rows: Iterable[Row], skipped: Iterable[Skipped], profile: str) -> None:
    """The figures with what they were taken on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),  # noqa: TID251
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "profile": profile,
        "rows": [row.figures() for row in rows],
        "skipped": [vars(each) for each in skipped],
    }
    path.write_text(json.dumps(figures, indent=2), "utf-8")
