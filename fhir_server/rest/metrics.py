"""What the server counts, for Prometheus. No label's value comes from a path, an id or a body.

Several processes on one port count into files that they share (`PROMETHEUS_MULTIPROC_DIR`,
set by `serve --workers`), so that whichever is asked answers for all of them.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from fhir_server.core.mapping.reading import Verdict
from fhir_server.errors import FhirError
from fhir_server.store.protocol import CommittedGroup, DeliveryState, Outbox

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# When each series began: twice the series for what nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500)

_requests = Counter(
    "fhir_server_requests",
    "Requests answered, by FHIR interaction or route template.",
    ("interaction", "method", "status"),
)
_request_seconds = Histogram(
    "fhir_server_request_seconds",
    "Seconds from a request's headers to the end of its answer.",
    ("interaction",),
    buckets=_SECONDS,
)
in_progress = Gauge(
    "fhir_server_requests_in_progress",
    "Requests that are being answered.",
    multiprocess_mode="livesum",
)
websockets = Gauge(
    "fhir_server_websockets",
    "Websockets that are open.",
    multiprocess_mode="livesum",
)
_readings = Counter(
    "fhir_server_readings",
    "Readings decided, by mapping and verdict.",
    ("mapping", "verdict"),
)
_reprocessed = Counter(
    "fhir_server_quarantine_reprocessed",
    "Quarantined readings decided again, by verdict.",
    ("verdict",),
)
_commit_seconds = Histogram(
    "fhir_server_commit_seconds",
    "Seconds a group commit took, from its first decision until it was durable.",
    buckets=_SECONDS,
)
_commit_decisions = Histogram(
    "fhir_server_commit_decisions",
    "Decisions that were committed together.",
    buckets=_SIZES,
)
_commit_versions = Counter(
    "fhir_server_commit_versions",
    "Versions of resources that were committed.",
)


@lru_cache(maxsize=4_096)
def _counters(interaction: str, method: str, status: int) -> tuple[Counter, Histogram]:
    return (
        _requests.labels(interaction, method, str(status)),
        _request_seconds.labels(interaction),
    )


def count_request(interaction: str, method: str, status: int, seconds: float) -> None:
    counter, histogram = _counters(interaction, method, status)
    counter.inc()
    histogram.observe(seconds)


def count_readings(mapping: str, verdicts: Mapping[Verdict, int]) -> None:
    """`mapping` is the name of one that exists."""
    for verdict, number in verdicts.items():
        _readings.labels(mapping, str(verdict)).inc(number)


def count_reprocessed(verdict: Verdict) -> None:
    _reprocessed.labels(str(verdict)).inc()


def count_commit(group: CommittedGroup) -> None:
    """An observer of the store's commits."""
    _commit_seconds.observe(group.seconds)
    _commit_decisions.observe(group.decisions)
    _commit_versions.inc(group.versions)


class Exposition(NamedTuple):
    """The text of all metrics and its media type."""

    body: bytes
    media_type: str


class OutboxGauges:
    """The outbox at the moment it is looked at, which is not more often than `seconds`.

    Counting reads the store, off the event loop; all who ask meanwhile share one answer, and
    nobody waits longer than `patience` seconds for it.
    """

    def __init__(
        self,
        outbox: Outbox,
        now: Callable[[], datetime],
        *,
        seconds: float = 10.0,
        patience: float = 5.0,
    ) -> None:
        self._outbox = outbox
        self._now = now
        self._seconds = seconds
        self._patience = patience
        self._counting: asyncio.Task[tuple[Metric, ...]] | None = None
        self._fresh_until = 0.0

    async def read(self) -> tuple[Metric, ...]:
        if self._counting is None or (self._counting.done() and monotonic() >= self._fresh_until):
            self._counting = asyncio.create_task(asyncio.to_thread(self._count))
            self._fresh_until = monotonic() + self._seconds
        done, _ = await asyncio.wait((self._counting,), timeout=self._patience)
        return self._counting.result() if done else (_outbox_up(0),)

    def _count(self) -> tuple[Metric, ...]:
        deliveries = GaugeMetricFamily(
            "fhir_server_outbox_deliveries",
            "Deliveries in the ledger, by sink and state.",
            labels=("sink", "state"),
        )
        try:
            counts = self._outbox.counts()
            oldest = self._outbox.oldest_due()
        except FhirError:
            # The other gauges are left out: a zero would be a lie.
            return (_outbox_up(0),)
        for sink in sorted({sink for sink, _ in counts}):
            for state in DeliveryState:
                deliveries.add_metric((sink, str(state)), counts.get((sink, state), 0))
        waited = 0.0 if oldest is None else (self._now() - oldest).total_seconds()
        age = gauge(
            "fhir_server_outbox_oldest_seconds",
            "How long the oldest delivery has waited that is queued or sent; 0 if none is.",
            max(0.0, waited),
        )
        return (_outbox_up(1), deliveries, age)


def gauge(name: str, documentation: str, value: float) -> Metric:
    """A gauge of this moment."""
    return GaugeMetricFamily(name, documentation, value=value)


def _outbox_up(value: float) -> Metric:
    return gauge(
        "fhir_server_outbox_up", "Whether the outbox could be counted (1) or not (0).", value
    )


async def expose(families: Iterable[Metric], accept: str | None) -> Exposition:
    """Everything counted, and `families`, in the format that the scraper wants."""
    everything = _Everything(tuple(families))
    encode, media_type = choose_encoder(accept or "")
    # The shared files of many processes are read from the disk.
    return Exposition(await asyncio.to_thread(encode, everything), media_type)


class _Everything(Collector):
    """What is counted here, or by all processes of this port, and what was just looked up."""

    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        folder = os.environ.get(SHARED_FOLDER)
        if folder:
            _forget_the_dead(Path(folder))
            shared = MultiProcessCollector(CollectorRegistry())  # type: ignore[no-untyped-call]
            yield from shared.collect()  # type: ignore[no-untyped-call]
        else:
            yield from REGISTRY.collect()
        yield from self._families


def _forget_the_dead(folder: Path) -> None:
    """Take out what processes that were killed had under way."""
    for path in folder.glob("gauge_live*.db"):
        process_id = path.stem.rpartition("_")[2]
        try:
            os.kill(int(process_id), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
