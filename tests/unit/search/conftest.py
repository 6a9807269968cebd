"""R4's own definitions, and a world of resources to search in."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import format as format_json
from fhir_server.core.resource_json import parse as parse_json
from fhir_server.core.search import match
from fhir_server.core.search.derive import derive
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.match import Indexed
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.parse import ParsedSearch, parse
from fhir_server.core.version import Version
from fhir_server.definitions import load_element_types, load_search_parameters

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
BASE_URL = "http://here/fhir"


@pytest.fixture(scope="session")
def element_types() -> ElementTypes:
    return load_element_types()


@pytest.fixture(scope="session")
def parameters() -> SearchParameters:
    return derive(load_search_parameters())


@pytest.fixture(scope="session")
def indexer(parameters: SearchParameters, element_types: ElementTypes) -> Indexer:
    return Indexer(parameters, element_types, "Europe/Moscow")


Index = Callable[[dict[str, Any]], IndexEntries]


@pytest.fixture(scope="session")
def index(indexer: Indexer) -> Index:
    """Entries of a resource as it comes from its JSON: with decimals."""

    def make(resource: dict[str, Any]) -> IndexEntries:
        return indexer.index(parse_json(format_json(resource)))

    return make


Parse = Callable[..., ParsedSearch]


@pytest.fixture(scope="session")
def read(parameters: SearchParameters) -> Parse:
    def make(
        resource_type: str, *params: tuple[str, str], strict: bool = True, page: int = 1000
    ) -> ParsedSearch:
        return parse(
            resource_type,
            params,
            parameters,
            base_url=BASE_URL,
            time_zone="Europe/Moscow",
            now=NOW,
            max_page_size=page,
            default_page_size=50,
            strict=strict,
        )

    return make


Find = Callable[..., list[str]]


@pytest.fixture(scope="session")
def find(index: Index, read: Parse) -> Find:
    """Ids of the given resources that a search matches, in its order.

    Each is stored one second after the one before.
    """

    def world(resources: Iterable[dict[str, Any]]) -> list[Indexed]:
        found = []
        for n, resource in enumerate(resources, 1):
            key = ResourceKey(resource["resourceType"], resource["id"])
            version = Version(key, 1, NOW + timedelta(seconds=n), "create", b"{}", n)
            found.append(Indexed(index(resource), version))
        return found

    def run(
        resources: Sequence[dict[str, Any]], resource_type: str, *params: tuple[str, str]
    ) -> list[str]:
        everything = world(resources)

        def resolve(wanted: str) -> list[Indexed]:
            return [i for i in everything if i.version.key.resource_type == wanted]

        query = read(resource_type, *params).query
        return [version.key.resource_id for version in match.search(query, resolve)]

    return run
