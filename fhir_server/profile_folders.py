"""Reads what profile folders hold: definitions of profiles, operations and plans, packages."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fhir_server.core import resource_json
from fhir_server.core.identity import is_resource_id
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.terminology import NotLoaded, Terminology
from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation.profile_files import parse_definition, unpack
from fhir_server.errors import InvalidSearch, MalformedResource


def read_definitions(profile_folders: Sequence[Path]) -> list[Resource]:
    """The definitions in these folders and below them, and in the FHIR packages there.

    Of one URL the last counts. Files are called ``StructureDefinition-….json``, packages
    ``….tgz``.

    Raises:
        ValueError: a file is no such thing.
    """
    found: dict[str, Resource] = {}
    for folder in profile_folders:
        for path in sorted(folder.rglob("*-*.json")):
            if path.name.startswith(("StructureDefinition-", "ValueSet-", "CodeSystem-")):
                try:
                    resource = parse_definition(path.read_bytes())
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from None
                found[resource["url"]] = resource
        for path in sorted(folder.rglob("*.tgz")):
            try:
                found.update((resource["url"], resource) for resource in unpack(path.read_bytes()))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
    return list(found.values())


def read_project_profiles(profile_folders: Sequence[Path]) -> list[Resource]:
    """The StructureDefinitions in `project/` of these folders; of one id the last counts.

    Raises:
        ValueError: a file is none, or has no id.
    """
    found: dict[str, Resource] = {}
    for folder in profile_folders:
        for resource in of_kinds(read_definitions([folder / "project"]), "StructureDefinition"):
            if not resource.get("id"):
                raise ValueError(f"{resource['url']} in {folder / 'project'} has no id")
            found[resource["id"]] = resource
    return list(found.values())


def read_operations(profile_folders: Sequence[Path]) -> list[Resource]:
    """The OperationDefinitions in these folders and below them.

    Raises:
        ValueError: a file is none, or has no id and url.
    """
    files = (
        path for folder in profile_folders for path in folder.rglob("OperationDefinition-*.json")
    )
    return [_read(path, "OperationDefinition") for path in sorted(files)]


def read_plan_definitions(profile_folders: Sequence[Path]) -> list[Resource]:
    """The PlanDefinitions in `plans/` of these folders; of one id the last counts.

    Raises:
        ValueError: a file is none, or has no id and url.
    """
    found: dict[str, Resource] = {}
    for folder in profile_folders:
        for path in sorted((folder / "plans").glob("*.json")):
            resource = _read(path, "PlanDefinition")
            found[resource["id"]] = resource
    return list(found.values())


def _read(path: Path, resource_type: str) -> Resource:
    try:
        resource = resource_json.parse_resource(path.read_bytes())
    except MalformedResource as error:
        raise ValueError(f"{path}: {error}") from None
    is_one = resource["resourceType"] == resource_type
    if not is_one or not resource.get("url") or not is_resource_id(resource.get("id", "")):
        raise ValueError(f"{path} is no {resource_type} with an id and a url")
    return resource


def codes_of(terminology: Terminology) -> Callable[[str], Codes | None]:
    """What gives the codes of a value set, in the version that is here; None if nobody can tell."""

    def find(url: str) -> Codes | None:
        known = terminology
        while True:
            try:
                return known.codes(url.partition("|")[0])
            except NotLoaded as missing:
                # What is stored was given before: there is no such definition.
                known = known.having(missing, None)
            except InvalidSearch:
                return None

    return find


def of_kinds(resources: Iterable[Resource], *kinds: str) -> list[Resource]:
    return [resource for resource in resources if resource["resourceType"] in kinds]
