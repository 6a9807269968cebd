"""The shipped language and mappings, and small mappings written in a test."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_server import definitions
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.catalog import MappingCatalog, compile_catalog, compile_mapping
from fhir_server.core.mapping.files import ExampleFiles, MappingFiles
from fhir_server.core.mapping.language import Language
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Gateway, IdentifierToken

ANY_PAYLOAD = '{"type": "object"}'


@pytest.fixture(scope="session")
def language() -> Language:
    folder = definitions.shipped_folder("terminology")
    return definitions.read_mapping_language([folder], "Europe/Moscow")


@pytest.fixture(scope="session")
def files() -> dict[str, MappingFiles]:
    return dict(definitions.read_mapping_files([definitions.shipped_folder("mappings")]))


@pytest.fixture(scope="session")
def catalog(files: dict[str, MappingFiles], language: Language) -> MappingCatalog:
    return compile_catalog(files, language)


@pytest.fixture(scope="session")
def ihealth(catalog: MappingCatalog) -> Mapping:
    mapping = catalog.get("ihealth")
    assert isinstance(mapping, Mapping)
    return mapping


@pytest.fixture(scope="session")
def iot_hub(catalog: MappingCatalog) -> Mapping:
    mapping = catalog.get("iot-hub")
    assert isinstance(mapping, Mapping)
    return mapping


@pytest.fixture(scope="session")
def device_kit(catalog: MappingCatalog) -> Mapping:
    mapping = catalog.get("device-kit")
    assert isinstance(mapping, Mapping)
    return mapping


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(received=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def placement() -> Placement:
    return Placement(
        ResourceKey("Patient", "p1"),
        ResourceKey("Device", "d1"),
        IdentifierToken("https://acme.example/serial", "SN-1"),
    )


def _files_of(
    text: str,
    name: str = "acme",
    schema: str | None = ANY_PAYLOAD,
    examples: dict[str, tuple[Any, Any]] | None = None,
) -> MappingFiles:
    """A folder with one mapping; examples are (payload, expected)."""
    return MappingFiles(
        name,
        f"mappings/{name}/mapping.yaml",
        text,
        schema,
        tuple(
            ExampleFiles(
                case, json.dumps(payload), None if expected is None else json.dumps(expected)
            )
            for case, (payload, expected) in (examples or {}).items()
        ),
    )


@pytest.fixture(scope="session")
def files_of() -> Callable[..., MappingFiles]:
    return _files_of


@pytest.fixture
def compiled(language: Language) -> Callable[..., Mapping]:
    """Compiles the text of a mapping that must have no fault."""

    def compile_text(text: str, **options: Any) -> Mapping:
        mapping = compile_mapping(_files_of(text, **options), language)
        assert isinstance(mapping, Mapping), mapping
        return mapping

    return compile_text
