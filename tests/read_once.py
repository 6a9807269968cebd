"""The shipped definitions and mappings, read once in a process for all its tests.

Dozens of servers start within one process of the tests, each as if it were the first. What
an installation adds is read anew by each.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fhir_server import definitions
from fhir_server.core.mapping import catalog
from fhir_server.core.mapping.catalog import BrokenMapping
from fhir_server.core.mapping.files import MappingFiles
from fhir_server.core.mapping.language import Language
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.definitions import Definitions

_load = definitions.load
_read_language = definitions.read_mapping_language
_compile = catalog.compile_mapping

_languages: dict[str, Language] = {}
_mappings: dict[tuple[str, MappingFiles], Mapping | BrokenMapping] = {}


def begin() -> None:
    """Before anything else takes these functions by name."""
    definitions.load = load
    definitions.read_mapping_language = read_language
    catalog.compile_mapping = compile_mapping


def load(
    mappings: Sequence[Path] = (), profiles: Sequence[Path] = (), terminology: Sequence[Path] = ()
) -> Definitions:
    if mappings or profiles or terminology:
        return _load(mappings, profiles, terminology)
    return _shipped()


@cache
def _shipped() -> Definitions:
    return _load()


def read_language(terminology_folders: Sequence[Path], time_zone: str) -> Language:
    if tuple(terminology_folders) != (definitions.shipped_folder("terminology"),):
        return _read_language(terminology_folders, time_zone)
    if time_zone not in _languages:
        _languages[time_zone] = _read_language(terminology_folders, time_zone)
    return _languages[time_zone]


def compile_mapping(files: MappingFiles, language: Language) -> Mapping | BrokenMapping:
    if _languages.get(language.time_zone) is not language:
        return _compile(files, language)
    key = language.time_zone, files
    if key not in _mappings:
        _mappings[key] = _compile(files, language)
    return _mappings[key]
