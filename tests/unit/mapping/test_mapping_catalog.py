"""One broken mapping stops no other."""

from collections.abc import Callable

from fhir_server.core.mapping.catalog import BrokenMapping, compile_catalog
from fhir_server.core.mapping.files import MappingFiles
from fhir_server.core.mapping.language import Language
from fhir_server.core.mapping.mapping import Mapping


def test_a_broken_mapping_is_reported_and_the_others_work(
    files: dict[str, MappingFiles],
    files_of: Callable[..., MappingFiles],
    language: Language,
) -> None:
    broken = files_of("mapping: [", name="broken")
    unreadable = MappingFiles("locked", "locked/mapping.yaml", "", unreadable="no permission")
    catalog = compile_catalog([broken, unreadable, *files.values()], language)
    assert isinstance(catalog.get("broken"), BrokenMapping)
    assert isinstance(catalog.get("locked"), BrokenMapping)
    assert isinstance(catalog.get("ihealth"), Mapping)
    assert catalog.get("nowhere") is None
    assert {fault.path for fault in catalog.faults} == {
        "mappings/broken/mapping.yaml",
        "locked/mapping.yaml",
    }


def test_all_shipped_mappings_are_in_the_catalog(
    files: dict[str, MappingFiles], language: Language
) -> None:
    catalog = compile_catalog(files, language)
    assert set(catalog.names) == set(files) >= {"device-kit", "ihealth", "iot-hub"}
    assert catalog.faults == ()
    enrols = {name for name in catalog.names if getattr(catalog.get(name), "is_enrolment", False)}
    assert enrols == {"device-kit"}
