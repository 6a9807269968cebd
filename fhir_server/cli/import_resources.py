"""Plain FHIR into requests that may be repeated: each resource by its id or identifier.

An id makes an update (`PUT`), which stores nothing that is stored already; an identifier
makes a conditional create. What has neither is refused: a second run would double it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

from fhir_server.cli.archive_file import read_lines
from fhir_server.core import resource_json
from fhir_server.core.identity import is_resource_id
from fhir_server.core.resource_json import Resource
from fhir_server.errors import FhirError, InvalidResource

_ENTRIES = 200
_BYTES = 2 * 1024 * 1024
_UUID = "urn:uuid:"
_RESERVED = str.maketrans({character: f"\\{character}" for character in "\\|,$"})


class Portion(NamedTuple):
    """One request: a Bundle and where each of its entries comes from.

    `end` is how far into the file it reaches; `faults` are entries that are in no request.
    """

    bundle: Resource
    places: tuple[str, ...]
    end: int
    faults: tuple[str, ...] = ()


def portions(path: Path) -> Iterator[Portion]:
    """The requests that import a file of NDJSON, of one resource or of one Bundle.

    Raises:
        InvalidResource: the file holds nothing that can be imported.
    """
    names = [suffix.lower() for suffix in path.suffixes]
    if ".ndjson" in names or ".jsonl" in names:
        yield from _of_lines(path)
        return
    size = path.stat().st_size
    try:
        resource = resource_json.parse_resource(b"\n".join(line for line, _ in read_lines(path)))
    except FhirError as error:
        raise InvalidResource(f"{path}: {error}") from None
    if resource["resourceType"] == "Bundle":
        yield from _of_bundle(path, resource, size)
    else:
        yield from _gathered([(f"{path}", resource, size, size)], [])


def _of_lines(path: Path) -> Iterator[Portion]:
    faults: list[str] = []

    def parsed() -> Iterator[tuple[str, Resource, int, int]]:
        for number, (line, end) in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            try:
                resource = resource_json.parse_resource(line)
            except FhirError as error:
                faults.append(f"{path}:{number}: {error}")
                continue
            yield f"{path}:{number}", resource, len(line), end

    yield from _gathered(parsed(), faults)


def _gathered(
    resources: Iterable[tuple[str, Resource, int, int]], faults: list[str]
) -> Iterator[Portion]:
    """Batches of resources given as place, resource, size and end; `faults` goes along."""
    entries: list[Resource] = []
    places: list[str] = []
    targets: set[str] = set()
    size = end = 0
    for place, resource, length, reached in resources:
        entry = _entry(resource, None)
        if entry is None:
            faults.append(f"{place}: {_NAMELESS}")
            continue
        url: str = entry["request"]["url"]
        # The entries of a batch have no order: of one resource there is one in each.
        if len(entries) >= _ENTRIES or size >= _BYTES or url in targets:
            yield Portion(_bundle("batch", entries), tuple(places), end, tuple(faults))
            entries, places, targets, size = [], [], set(), 0
            faults.clear()
        entries.append(entry)
        places.append(place)
        if entry["request"]["method"] == "PUT":
            targets.add(url)
        size, end = size + length, reached
    if entries or faults:
        yield Portion(_bundle("batch", entries), tuple(places), end, tuple(faults))


def _of_bundle(path: Path, bundle: Resource, end: int) -> Iterator[Portion]:
    kind, found = bundle.get("type"), bundle.get("entry", [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InvalidResource(f"{path}: Bundle.entry is a list of entries")
    if kind == "history":
        raise InvalidResource(f"{path}: a history cannot be imported; `export` moves one")
    if kind in ("transaction", "batch"):
        yield _as_asked(path, kind, found, end)
        return
    contained = [
        (f"{path}: Bundle.entry[{number}]", entry)
        for number, entry in enumerate(found)
        if isinstance(entry.get("resource"), dict)
        and (entry.get("search") or {}).get("mode") != "outcome"
    ]
    if any(str(entry.get("fullUrl", "")).startswith(_UUID) for _, entry in contained):
        # They refer to each other by names that hold in this Bundle alone.
        yield _transaction(contained, end)
        return
    yield from _gathered(((place, entry["resource"], 0, end) for place, entry in contained), [])


def _as_asked(path: Path, kind: str, found: list[dict[str, Any]], end: int) -> Portion:
    """A request as it is, but that what it creates is created once."""
    entries: list[Resource] = []
    places: list[str] = []
    faults: list[str] = []
    for number, entry in enumerate(found):
        place = f"{path}: Bundle.entry[{number}]"
        request = entry.get("request") or {}
        resource = entry.get("resource")
        if request.get("method") in ("GET", "HEAD"):
            continue
        if request.get("method") == "POST" and "ifNoneExist" not in request:
            made = _entry(resource, entry.get("fullUrl")) if isinstance(resource, dict) else None
            if made is None:
                faults.append(f"{place}: {_NAMELESS}")
                continue
            entry = made
        entries.append(entry)
        places.append(place)
    if faults and kind == "transaction":
        # All or nothing, so nothing.
        return Portion(_bundle("batch", []), (), end, tuple(faults))
    return Portion(_bundle(kind, entries), tuple(places), end, tuple(faults))


def _transaction(contained: list[tuple[str, dict[str, Any]]], end: int) -> Portion:
    entries = [_entry(entry["resource"], entry.get("fullUrl")) for _, entry in contained]
    faults = [
        f"{place}: {_NAMELESS}"
        for (place, _), entry in zip(contained, entries, strict=True)
        if entry is None
    ]
    if faults:
        return Portion(_bundle("batch", []), (), end, tuple(faults))
    made = [entry for entry in entries if entry is not None]
    return Portion(_bundle("transaction", made), tuple(place for place, _ in contained), end)


_NAMELESS = "it has neither an id nor an identifier, so a second import would double it"


def _entry(resource: Resource, full_url: object) -> Resource | None:
    """The request that stores `resource` once; None where nothing names it."""
    resource_type = resource.get("resourceType")
    resource_id = resource.get("id")
    entry: Resource = {"fullUrl": full_url} if isinstance(full_url, str) else {}
    if not (isinstance(resource_id, str) and is_resource_id(resource_id)):
        resource_id = _uuid(full_url)
    if resource_id:
        request = {"method": "PUT", "url": f"{resource_type}/{resource_id}"}
        return {**entry, "resource": {**resource, "id": resource_id}, "request": request}
    condition = _condition(resource.get("identifier"))
    if condition is None:
        return None
    request = {"method": "POST", "url": str(resource_type), "ifNoneExist": condition}
    return {**entry, "resource": resource, "request": request}


def _uuid(full_url: object) -> str | None:
    if not isinstance(full_url, str) or not full_url.startswith(_UUID):
        return None
    try:
        return str(UUID(full_url.removeprefix(_UUID)))
    except ValueError:
        return None


def _condition(identifiers: object) -> str | None:
    for identifier in identifiers if isinstance(identifiers, list) else [identifiers]:
        if isinstance(identifier, dict) and isinstance(identifier.get("value"), str):
            system, value = identifier.get("system"), identifier["value"].translate(_RESERVED)
            if isinstance(system, str):
                value = f"{system.translate(_RESERVED)}|{value}"
            return "identifier=" + quote(value, safe="")
    return None


def _bundle(kind: str, entries: list[Resource]) -> Resource:
    return {"resourceType": "Bundle", "type": kind, "entry": entries}
