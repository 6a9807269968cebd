"""SQLite stores on files of the test's own."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.core.search.index import Indexer
from fhir_server.definitions import Definitions, load
from fhir_server.store.sqlite.store import SqliteStore
from tests.contract.conftest import Clock, Driver


@pytest.fixture(scope="session")
def definitions() -> Definitions:
    return load()


@pytest.fixture(scope="session")
def indexer(definitions: Definitions) -> Indexer:
    return Indexer(definitions.parameters, definitions.element_types, "Europe/Moscow")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fhir.db"


@pytest.fixture
def open_driver(
    path: Path, definitions: Definitions, indexer: Indexer
) -> Iterator[Callable[..., Driver]]:
    """Opens the test's file, with settings of its own; closes what it opened."""
    opened: list[Driver] = []
    with asyncio.Runner() as runner:

        def make(**settings: Any) -> Driver:
            clock = Clock()
            index = settings.pop("index", indexer.index)
            driver = Driver(
                lambda: SqliteStore(path, index, definitions.parameters, clock, **settings),
                runner,
                clock,
                definitions,
            )
            opened.append(driver)
            return driver

        yield make
        for driver in opened:
            driver.close()


@pytest.fixture
def driver(open_driver: Callable[..., Driver]) -> Driver:
    return open_driver()
