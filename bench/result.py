"""What a load came to, and what it is compared with."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from bench.http_load import Measured


@dataclass(frozen=True)
class Comparison:
    """A ratio to a yardstick of the same run. Where `is_ceiling`, less is better.

    `cpu_ratio` is the same of processor time, which a busy machine disturbs less.
    """

    against: str
    ratio: float
    aim: float | None = None
    is_ceiling: bool = False
    cpu_ratio: float | None = None

    @property
    def is_met(self) -> bool | None:
        if self.aim is None:
            return None
        return self.ratio <= self.aim if self.is_ceiling else self.ratio >= self.aim


@dataclass(frozen=True)
class Row:
    """One line of the table; times in milliseconds.

    `per_second` counts requests, or resources where a request has several. Processor time
    is for one of these.
    """

    store: str
    readings: int
    load: str
    connections: int
    per_second: float
    p50: float
    p95: float
    p99: float
    server_cpu: float | None = None
    database_cpu: float | None = None
    server_megabytes: float | None = None
    database_megabytes: float | None = None
    comparisons: tuple[Comparison, ...] = ()
    note: str = ""

    def against(self, *comparisons: Comparison) -> Self:
        return replace(self, comparisons=(*self.comparisons, *comparisons))

    def figures(self) -> dict[str, Any]:
        """As JSON has it."""
        compared = [asdict(each) | {"is_met": each.is_met} for each in self.comparisons]
        return asdict(self) | {"comparisons": compared}


@dataclass(frozen=True)
class Skipped:
    """A load that was not run, and why."""

    store: str
    load: str
    reason: str


def milliseconds(measured: Measured) -> tuple[float, float, float]:
    """p50, p95 and p99."""
    p50, p95, p99 = (1_000 * measured.percentile(share) for share in (0.5, 0.95, 0.99))
    return p50, p95, p99
