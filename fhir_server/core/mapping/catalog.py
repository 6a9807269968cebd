"""All mappings of an installation, compiled once; a broken one stops no other."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fhir_server.core.mapping import mapping as mappings
from fhir_server.core.mapping.check_document import Checked, check_document
from fhir_server.core.mapping.compile import compile_ignore, compile_records, reading_specs
from fhir_server.core.mapping.compile_enrolment import compile_enrolment
from fhir_server.core.mapping.decode import DECODERS
from fhir_server.core.mapping.files import MappingFiles
from fhir_server.core.mapping.language import Language, MappingFault
from fhir_server.core.mapping.project import Template
from fhir_server.core.mapping.project_linked import ClockTemplate, StatusTemplate


class BrokenMapping(NamedTuple):
    """A mapping that cannot be used, and why; its readings wait in quarantine."""

    name: str
    faults: tuple[MappingFault, ...]


class MappingCatalog:
    """The mappings by name."""

    def __init__(self, found: Mapping[str, "mappings.Mapping | BrokenMapping"]) -> None:
        self._found = dict(found)

    def get(self, name: str) -> "mappings.Mapping | BrokenMapping | None":
        """The mapping, the broken one of that name, or None if there is no such folder."""
        return self._found.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._found))

    @property
    def faults(self) -> tuple[MappingFault, ...]:
        """Everything that is wrong with any of them."""
        broken = (self._found[name] for name in self.names)
        return tuple(f for m in broken if isinstance(m, BrokenMapping) for f in m.faults)


def compile_catalog(
    files: Iterable[MappingFiles] | Mapping[str, MappingFiles], language: Language
) -> MappingCatalog:
    """Check and compile each; the examples are `mappings check`'s."""
    values = files.values() if isinstance(files, Mapping) else files
    return MappingCatalog({file.name: compile_mapping(file, language) for file in values})


def compile_mapping(files: MappingFiles, language: Language) -> "mappings.Mapping | BrokenMapping":
    """The mapping, or everything that keeps it from being one."""
    checked = check_document(files, language)
    if isinstance(checked, tuple):
        return BrokenMapping(files.name, checked)
    return build(files.name, checked, language)


def build(name: str, checked: Checked, language: Language) -> "mappings.Mapping":
    """A mapping from a document that has no fault."""
    document = checked.document
    title = document.get("title", "")
    knowledge = language.knowledge
    if "enrolment" in document:
        return mappings.Mapping(
            name,
            title,
            checked.schema,
            enrolment=compile_enrolment(document["enrolment"], knowledge),
        )
    is_personal = document.get("personal", True)
    is_auxiliary = document.get("auxiliary", False)
    specs = reading_specs(document)
    # A rule's number finds its template; its status comes as many places later, the
    # device's clock last.
    templates: list[mappings.Projection] = [
        *(Template(spec, knowledge, is_personal, is_auxiliary) for spec in specs),
        *(StatusTemplate(spec, knowledge, is_auxiliary) for spec in specs),
        ClockTemplate(),
    ]
    return mappings.Mapping(
        name,
        title,
        checked.schema,
        ignore=compile_ignore(document),
        records=compile_records(document, knowledge, language.time_zone),
        templates=templates,
        decode=DECODERS[document["decode"]] if "decode" in document else None,
    )
