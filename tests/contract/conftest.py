"""One suite for every store: what a store is opened with, and how tests drive it."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.parse import parse
from fhir_server.core.search.query import Query
from fhir_server.core.security.audit_chain import ChainKeys
from fhir_server.core.version import Version, deletion, next_version
from fhir_server.definitions import Definitions, load
from fhir_server.store.open import OpenStore, open_store
from fhir_server.store.protocol import Transaction
from tests.provision import mongod

STORE_KINDS = ("sqlite", "mongo")


class Clock:
    """Goes on only when told."""

    def __init__(self) -> None:
        self.time = datetime(2024, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Driver:
    """A store, and short words for what most tests do with it."""

    def __init__(
        self,
        open_it: Callable[[], OpenStore],
        runner: asyncio.Runner,
        clock: Clock,
        definitions: Definitions,
    ) -> None:
        self._open = open_it
        self._runner = runner
        self._opened: list[OpenStore] = []
        self.clock = clock
        self.definitions = definitions
        self.terminology = definitions.terminology
        self.parameters = definitions.parameters
        self.store = self.open_another()

    @property
    def outbox(self) -> Any:
        return self.store.outbox

    def open_another(self, *keys: ChainKeys) -> OpenStore:
        """The same data, as another process of the server has it open; with keys of its trail."""

        async def opened() -> OpenStore:
            return self._open(*keys)

        store = self.run(opened())
        self._opened.append(store)
        return store

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def commit(self, decide: Callable[[Transaction], Any]) -> Any:
        return self.run(self.store.commit(decide))

    def write(self, *resources: Resource) -> tuple[Version, ...]:
        """Create or update each by its id, in one commit."""
        return self.commit(lambda tx: tuple(write(tx, resource) for resource in resources))

    def put(self, tx: Transaction, resource: Resource) -> Version:
        return write(tx, resource)

    def delete(self, key: ResourceKey) -> Version:
        return self.commit(lambda tx: delete(tx, key))

    def read(self, key: ResourceKey) -> Version | None:
        return self.run(self.store.read(key))

    def query(self, text: str) -> Query:
        """A search as in a URL: ``Patient?name=x``."""
        resource_type, _, params = text.partition("?")
        return parse(
            resource_type,
            parse_qsl(params, keep_blank_values=True),
            self.parameters,
            base_url="http://example.org/fhir",
            time_zone="Europe/Moscow",
            now=self.clock(),
            max_page_size=1000,
            default_page_size=50,
            strict=True,
            terminology=self.terminology,
        ).query

    def search(self, text: str, **changes: Any) -> Any:
        return self.run(self.store.search(self.query(text)._replace(**changes)))

    def ids(self, text: str, **changes: Any) -> list[str]:
        return [version.key.resource_id for version in self.search(text, **changes).versions]

    def close(self) -> None:
        for store in self._opened:
            self.run(store.close())


def write(tx: Transaction, resource: Resource) -> Version:
    key = ResourceKey(resource["resourceType"], resource["id"])
    version, stored = next_version(tx.read(key), key, resource, tx.now)
    tx.put(version, stored)
    return version


def delete(tx: Transaction, key: ResourceKey) -> Version:
    current = tx.read(key)
    assert current is not None
    version = deletion(current, tx.now)
    tx.put(version, None)
    return version


@pytest.fixture(scope="session")
def definitions() -> Definitions:
    return load()


@pytest.fixture(scope="session")
def indexer(definitions: Definitions) -> Indexer:
    return Indexer(definitions.parameters, definitions.element_types, "Europe/Moscow")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mongod.Databases]:
    """Gives the URL of an empty MongoDB database."""
    with mongod.databases(tmp_path_factory) as new_database:
        yield new_database


@pytest.fixture(scope="session")
def new_url(
    tmp_path_factory: pytest.TempPathFactory, mongodb: Callable[[], str]
) -> Callable[[str], str]:
    """The URL of an empty store of a kind."""
    numbers = itertools.count()
    folder: Path = tmp_path_factory.mktemp("stores")

    def make(kind: str) -> str:
        if kind == "mongo":
            return mongodb()
        return f"sqlite:///{folder}/{next(numbers)}.db"

    return make


@pytest.fixture(params=STORE_KINDS, scope="module")
def store_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def make_driver(
    runner: asyncio.Runner, definitions: Definitions, indexer: Indexer
) -> Callable[[str], Driver]:
    """A driver of the store at a URL; its maker closes it."""

    extend = definitions.extension("Europe/Moscow").extend

    def make(url: str) -> Driver:
        clock = Clock()
        return Driver(
            lambda *keys: open_store(url, indexer, definitions.parameters, clock, extend, *keys),
            runner,
            clock,
            definitions,
        )

    return make


@pytest.fixture
def driver(
    store_kind: str,
    new_url: Callable[[str], str],
    make_driver: Callable[[str], Driver],
    mongodb: mongod.Databases,
) -> Iterator[Driver]:
    url = new_url(store_kind)
    driver = make_driver(url)
    if store_kind == "mongo":
        mongodb.opened(url)
    yield driver
    driver.close()
    if store_kind == "mongo":
        mongodb.give_back(url)


@pytest.fixture
def store(driver: Driver) -> OpenStore:
    return driver.store


@pytest.fixture(name="write")
def write_fixture() -> Callable[[Transaction, Resource], Version]:
    return write


@pytest.fixture(name="delete")
def delete_fixture() -> Callable[[Transaction, ResourceKey], Version]:
    return delete
