"""Bare lookups: one row by its id, and the newest 20 of a patient and code, in a bare loop.

On tables of their own, the simplest that can answer: what a store adds to that is its price.
"""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import ASCENDING, DESCENDING, MongoClient

from bench.filled import Store
from bench.readings import (
    OWN_NAMES,
    PRESSURE,
    START,
    Population,
    observation,
    taken,
)
from fhir_server.core import resource_json

_MOST = 100_000
_LOOPS = 2_000
_ROWS = 5_000


class Lookups(NamedTuple):
    """Bare lookups a second."""

    read: float
    newest: float


class _Reading(NamedTuple):
    reading_id: str
    patient: str
    code: str
    taken: int
    body: bytes


def look_up(store: Store, population: Population) -> Lookups:
    """The rates on the kind of database that `store` is, with up to 100,000 readings."""
    held = Population(min(population.readings, _MOST))
    with (_sqlite if store.kind == "sqlite" else _mongo)(store, held) as (read, newest):
        return Lookups(
            _rate(lambda n: read(OWN_NAMES.reading(n * 7_919 % held.readings))),
            _rate(lambda n: newest(OWN_NAMES.patient(n * 7_919 % held.patients))),
        )


def _rate(look: Callable[[int], int]) -> float:
    for number in range(100):
        look(number)
    started = time.perf_counter()
    for number in range(_LOOPS):
        if not look(number):
            raise RuntimeError("a bare lookup that finds nothing")
    return _LOOPS / (time.perf_counter() - started)


_Look = Callable[[str], int]


@contextmanager
def _sqlite(store: Store, population: Population) -> Iterator[tuple[_Look, _Look]]:
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as folder:
        connection = sqlite3.connect(Path(folder) / "raw.db")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "CREATE TABLE reading (id TEXT PRIMARY KEY, patient TEXT, code TEXT, taken INTEGER,"
            " body BLOB)"
        )
        with connection:
            connection.executemany("INSERT INTO reading VALUES (?,?,?,?,?)", _rows(population))
            connection.execute("CREATE INDEX newest ON reading (patient, code, taken)")

        def read(reading_id: str) -> int:
            asked = "SELECT body FROM reading WHERE id = ?"
            return len(connection.execute(asked, (reading_id,)).fetchall())

        def newest(patient: str) -> int:
            asked = (
                "SELECT body FROM reading WHERE patient = ? AND code = ? AND taken >= ?"
                " ORDER BY taken DESC LIMIT 20"
            )
            first = int(START.timestamp())
            return len(connection.execute(asked, (patient, PRESSURE, first)).fetchall())

        try:
            yield read, newest
        finally:
            connection.close()


@contextmanager
def _mongo(store: Store, population: Population) -> Iterator[tuple[_Look, _Look]]:
    with MongoClient[dict[str, Any]](store.url) as client:
        readings = client["raw"]["readings"]
        readings.drop()
        batch: list[dict[str, Any]] = []
        for row in _rows(population):
            batch.append({"_id": row.reading_id, **row._asdict()})
            if len(batch) == _ROWS:
                readings.insert_many(batch)
                batch = []
        if batch:
            readings.insert_many(batch)
        readings.create_index([("patient", ASCENDING), ("code", ASCENDING), ("taken", DESCENDING)])

        def read(reading_id: str) -> int:
            return len(list(readings.find({"_id": reading_id}, {"body": 1})))

        def newest(patient: str) -> int:
            first = int(START.timestamp())
            asked = {"patient": patient, "code": PRESSURE, "taken": {"$gte": first}}
            found = readings.find(asked, {"body": 1}).sort("taken", DESCENDING).limit(20)
            return len(list(found))

        yield read, newest
        client.drop_database("raw")


def _rows(population: Population) -> Iterator[_Reading]:
    for number in range(population.readings):
        made = observation(number, population)
        yield _Reading(
            OWN_NAMES.reading(number),
            OWN_NAMES.patient(number % population.patients),
            made["code"]["coding"][0]["code"],
            int(taken(number, population).timestamp()),
            resource_json.format(made),
        )
