"""Reads the three data folders (mappings, profiles, terminology) into plain values.

The shipped folders stand beside the package in a checkout and under
`fhir_server/_data` in an installed wheel. What a mapping's text means is the core's
affair: here it stays text.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from fhir_server.core import resource_json
from fhir_server.core.compartment import Compartments
from fhir_server.core.element_types import Element, ElementTypes
from fhir_server.core.identity import is_resource_id
from fhir_server.core.mapping.files import ExampleFiles, MappingFiles
from fhir_server.core.mapping.language import Language, parse_language
from fhir_server.core.monitoring.limits import MonitoringRules
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.custom import SearchExtension
from fhir_server.core.search.derive import derive
from fhir_server.core.search.implied import ImpliedSystems
from fhir_server.core.search.parameter import (
    Component,
    SearchParameter,
    SearchParameters,
    SearchType,
    Source,
)
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation import base_invariants
from fhir_server.core.validation.profiles import Profiles
from fhir_server.core.validation.structure import StructureValidator
from fhir_server.core.validation.type_rules import ElementRule, TypeRule, TypeRules
from fhir_server.errors import MalformedResource
from fhir_server.profile_folders import codes_of, of_kinds, read_definitions, read_operations
from fhir_server.r4_files import (
    decode,
    profile_value_sets,
    read_r4_terminology,
    read_value_sets,
    shipped_folder,
)

T = TypeVar("T")

_MAPPING_FILES = ("mapping.yaml", "mapping.yml", "mapping.json")
_PAYLOAD = ".payload.json"
_ANY = "Resource"


@dataclass(frozen=True, slots=True)
class Definitions:
    """What the three folders say, read once at start-up.

    The folders are the shipped one first, then the extra ones as they were given. `shipped`
    are those definitions that a client may read.
    """

    element_types: ElementTypes
    parameters: SearchParameters
    validator: StructureValidator
    compartments: Compartments
    terminology: Terminology
    terminology_resources: tuple[Resource, ...]
    profiles: Profiles
    shipped: tuple[Resource, ...]
    mapping_folders: tuple[Path, ...]
    profile_folders: tuple[Path, ...]
    terminology_folders: tuple[Path, ...]

    def codes_with(self, stored: Sequence[Resource]) -> Callable[[str], Codes | None]:
        """What gives the codes of value sets, with those that `stored` defines."""
        known = {resource.get("url") for resource in self.terminology_resources}
        added = (resource for resource in stored if resource.get("url") not in known)
        return codes_of(Terminology((*added, *self.terminology_resources), read_r4_terminology()))

    def extension(self, time_zone: str) -> SearchExtension:
        """How search parameters are added to R4's own."""
        return SearchExtension(self.parameters, self.element_types, time_zone)


def load(
    mappings: Sequence[Path] = (),
    profiles: Sequence[Path] = (),
    terminology: Sequence[Path] = (),
) -> Definitions:
    """Read R4's definitions, and find the folders: the shipped ones and these extra ones.

    Raises:
        ValueError: an extra folder is not there.
    """
    types = _read_types()
    element_types = _element_types(types)
    value_sets = read_value_sets()
    terminology_folders = _folders("terminology", terminology)
    profile_folders = _folders("profiles", profiles)
    rules = _type_rules(types)
    found = read_definitions(profile_folders)
    of_r4 = read_r4_terminology()
    resources = (
        *profile_value_sets(of_r4),
        *of_kinds(found, "CodeSystem", "ValueSet"),
        *read_terminology(terminology_folders),
    )
    known = Terminology(resources, of_r4)
    return Definitions(
        element_types=element_types,
        parameters=derive(_search_parameters(types), ImpliedSystems(element_types, value_sets)),
        validator=StructureValidator(rules),
        compartments=load_compartments(),
        terminology=known,
        terminology_resources=resources,
        profiles=Profiles(
            rules,
            element_types,
            decode("invariants.json", dict[str, tuple[tuple[str, ...], ...]]),
            base_invariants.build(rules).keys,
            codes_of(known),
            (*decode("profiles.json", list[Resource]), *of_kinds(found, "StructureDefinition")),
        ),
        shipped=(
            *decode("operations.json", dict[str, Resource]).values(),
            *read_operations(profile_folders),
            *(each for each in (*found, *resources) if is_resource_id(each.get("id", ""))),
        ),
        mapping_folders=_folders("mappings", mappings),
        profile_folders=profile_folders,
        terminology_folders=terminology_folders,
    )


def load_element_types() -> ElementTypes:
    """The elements of every resource type, datatype and backbone element of R4."""
    return _element_types(_read_types())


def load_search_parameters() -> Sequence[SearchParameter]:
    """R4's search parameters, each once for every resource type it is about."""
    return _search_parameters(_read_types())


def load_type_rules() -> TypeRules:
    """What R4 demands of each type."""
    return _type_rules(_read_types())


def load_compartments() -> Compartments:
    """The compartments that R4 defines."""
    found = decode("compartments.json", dict[str, dict[str, tuple[str, ...]]])
    return Compartments(found)


def read_mapping_files(folders: Sequence[Path]) -> Mapping[str, MappingFiles]:
    """Every mapping below these folders by name, that of its own folder.

    A folder that holds a mapping file is itself one. Where a name comes twice the later
    folder wins, so an installation can replace what is shipped. A file that cannot be
    read makes its mapping `unreadable` and no other.
    """
    found: dict[str, MappingFiles] = {}
    for folder in folders:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
        for candidate in (folder, *inside):
            files = _mapping_file(candidate)
            if files is not None:
                found[candidate.name] = _read_mapping(candidate, files)
    return found


def read_mapping_language(terminology_folders: Sequence[Path], time_zone: str) -> Language:
    """What mapping files may say: the shipped words, every folder's `measurements.json`.

    Raises:
        ValueError: one of these files is not what it should be.
    """
    schema = shipped_folder("mappings") / "mapping.schema.json"
    texts = [
        path.read_bytes()
        for folder in terminology_folders
        if (path := folder / "measurements.json").is_file()
    ]
    return parse_language(schema.read_bytes(), texts, time_zone)


def read_terminology(folders: Sequence[Path]) -> list[Resource]:
    """The CodeSystems, ValueSets and ConceptMaps in these folders; of one URL the last counts.

    Raises:
        ValueError: a file is no such resource.
    """
    found: list[Resource] = []
    for folder in folders:
        for kind in ("CodeSystem", "ValueSet", "ConceptMap"):
            for path in sorted(folder.glob(f"{kind}-*.json")):
                try:
                    resource = resource_json.parse_resource(path.read_bytes())
                except MalformedResource as error:
                    raise ValueError(f"{path}: {error}") from None
                if resource["resourceType"] != kind or not resource.get("url"):
                    raise ValueError(f"{path} is no {kind} with a url")
                found.append(resource)
    return found


def read_topics(profile_folders: Sequence[Path]) -> list[Resource]:
    """The SubscriptionTopics in `topics/` of these folders; of one URL the last counts.

    Raises:
        ValueError: a file is none.
    """
    found: dict[str, Resource] = {}
    for folder in profile_folders:
        for path in sorted((folder / "topics").glob("*.json")):
            try:
                resource = resource_json.parse_resource(path.read_bytes())
            except MalformedResource as error:
                raise ValueError(f"{path}: {error}") from None
            if resource["resourceType"] != "SubscriptionTopic" or not resource.get("url"):
                raise ValueError(f"{path} is no SubscriptionTopic with a url")
            found[resource["url"]] = resource
    return list(found.values())


def read_monitoring_rules(profile_folders: Sequence[Path]) -> MonitoringRules:
    """What `monitoring/rules.json` of the last of these folders that has one says.

    Raises:
        ValueError: it is not what it should be.
    """
    for folder in reversed(profile_folders):
        path = folder / "monitoring" / "rules.json"
        if path.is_file():
            try:
                return msgspec.json.decode(path.read_bytes(), type=MonitoringRules)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{path}: {error}") from None
    return MonitoringRules()


def _folders(name: str, extra: Sequence[Path]) -> tuple[Path, ...]:
    for path in extra:
        if not path.is_dir():
            raise ValueError(f"{path} is no folder, so no {name} can be read from it")
    shipped = shipped_folder(name)
    return (*((shipped,) if shipped.is_dir() else ()), *(path.resolve() for path in extra))


def _mapping_file(folder: Path) -> Path | None:
    for name in _MAPPING_FILES:
        if (folder / name).is_file():
            return folder / name
    return None


def _read_mapping(folder: Path, mapping: Path) -> MappingFiles:
    try:
        schema = folder / "payload.schema.json"
        return MappingFiles(
            name=folder.name,
            path=str(mapping),
            mapping_text=_text(mapping),
            payload_schema_text=_text(schema) if schema.is_file() else None,
            examples=tuple(_read_examples(folder / "examples")),
        )
    except (OSError, UnicodeDecodeError) as error:
        return MappingFiles(folder.name, str(mapping), "", unreadable=str(error))


def _read_examples(folder: Path) -> Iterator[ExampleFiles]:
    for payload in sorted(folder.glob("*" + _PAYLOAD)):
        case = payload.name.removesuffix(_PAYLOAD)
        expected = folder / f"{case}.expected.json"
        yield ExampleFiles(case, _text(payload), _text(expected) if expected.is_file() else None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        error.reason = f"{error.reason} in {path}"
        raise


class _Element(msgspec.Struct, frozen=True):
    name: str
    types: tuple[str, ...]
    choice: bool = False
    list: bool = False
    min: int = 0
    attribute: bool = False
    summary: bool = False
    targets: tuple[str, ...] = ()
    simple: bool = False
    values: str = ""


class _Type(msgspec.Struct, frozen=True):
    kind: str
    elements: tuple[_Element, ...]
    abstract: bool = False


class _Parameter(msgspec.Struct, frozen=True):
    base: str
    code: str
    type: SearchType
    expression: str
    url: str
    targets: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()


def _read_types() -> Mapping[str, _Type]:
    return decode("elements.json", dict[str, _Type])


def _element_types(types: Mapping[str, _Type]) -> ElementTypes:
    return ElementTypes(
        {
            name: [
                Element(
                    name=e.name,
                    types=e.types,
                    is_list=e.list,
                    is_choice=e.choice,
                    targets=e.targets,
                    is_required=e.min > 0,
                    is_summary=e.summary,
                    value_set=e.values,
                )
                for e in found.elements
            ]
            for name, found in types.items()
        }
    )


def _type_rules(types: Mapping[str, _Type]) -> TypeRules:
    rules = (
        TypeRule(
            name,
            (
                ElementRule(
                    name=e.name,
                    types=e.types,
                    is_choice=e.choice,
                    is_list=e.list,
                    minimum=e.min,
                    targets=e.targets,
                    is_attribute=e.attribute,
                    is_simple=e.simple,
                    value_set=e.values,
                )
                for e in found.elements
            ),
            is_resource=found.kind == "resource",
            is_abstract=found.abstract,
        )
        for name, found in types.items()
    )
    return TypeRules(rules, read_value_sets())


def _search_parameters(types: Mapping[str, _Type]) -> list[SearchParameter]:
    everything = [n for n, t in types.items() if t.kind == "resource" and not t.abstract]
    return [
        SearchParameter(
            resource_type=resource_type,
            code=found.code,
            type=found.type,
            # "Resource.id" is said of each type in that type's own words.
            expression=resource_type + found.expression.removeprefix(found.base)
            if found.base == _ANY
            else found.expression,
            url=found.url,
            targets=found.targets,
            components=tuple(Component(*component) for component in found.components),
            sources=(Source(found.code),),
        )
        for found in decode("search-parameters.json", list[_Parameter])
        for resource_type in (everything if found.base == _ANY else (found.base,))
    ]
