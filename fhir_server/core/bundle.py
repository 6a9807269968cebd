"""Bundles as answers: searchset, history, batch-response and transaction-response.

The bodies of versions are spliced in as they are stored, never parsed.
https://hl7.org/fhir/R4/bundle.html
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from fhir_server.core import etag, resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version, format_instant, ids_of

Mode = Literal["match", "include", "outcome"]


class Link(NamedTuple):
    """`relation` is self, first, previous or next; `url` is absolute."""

    relation: str
    url: str


class SearchEntry(NamedTuple):
    """One entry of a searchset. `key` is None for an outcome; `body` may be a part of a version."""

    key: ResourceKey | None
    body: bytes
    mode: Mode


class ResponseEntry(NamedTuple):
    """What became of one entry of a batch or transaction."""

    status: str
    key: ResourceKey | None = None
    version: Version | None = None
    location: str | None = None
    resource: bytes | None = None
    outcome: bytes | None = None


def searchset(
    base_url: str,
    entries: Iterable[SearchEntry],
    *,
    links: Sequence[Link],
    total: int | None,
    now: datetime,
) -> bytes:
    """A page of a search."""
    # Most of a page is bodies: they are copied once, to where they go out from.
    bundle = resource_json.format(_bundle("searchset", links, total, now))
    parts = [bundle[:-1], b',"entry":[']
    for entry in entries:
        parts += _search_entry(base_url, entry)
    if len(parts) == 2:
        return bundle
    parts[-1] = parts[-1].removesuffix(b",")
    parts.append(b"]}")
    return b"".join(parts)


def searchset_of(
    base_url: str,
    resource_type: str,
    bodies: Sequence[bytes],
    *,
    links: Sequence[Link],
    now: datetime,
) -> bytes:
    """A page of matches of one type, given as they are stored; the same bytes as `searchset`."""
    bundle = resource_json.format(_bundle("searchset", links, None, now))
    if not bodies:
        return bundle
    url = resource_json.format(f"{base_url}/{resource_type}/")[:-1]
    first = b'{"fullUrl":' + url
    following = _SEARCH["match"] + first
    parts = [bundle[:-1], b',"entry":[']
    begin = first
    for resource_id, body in zip(ids_of(bodies, resource_type), bodies, strict=True):
        parts += (begin, resource_id, b'","resource":', body)
        begin = following
    parts += (_SEARCH["match"][:-1], b"]}")
    return b"".join(parts)


def history(
    base_url: str,
    versions: Iterable[Version],
    *,
    links: Sequence[Link],
    total: int | None,
    now: datetime,
) -> bytes:
    """A page of a history, newest first; a deletion's entry has no resource."""
    return _format("history", [_history_entry(base_url, v) for v in versions], links, total, now)


def responses(
    kind: Literal["batch-response", "transaction-response"],
    base_url: str,
    entries: Iterable[ResponseEntry],
) -> bytes:
    """The answer to a batch or transaction, in the order of its request."""
    return _format(kind, [_response_entry(base_url, e) for e in entries], (), None, None)


def _format(
    kind: str,
    entries: list[dict[str, Any]],
    links: Sequence[Link],
    total: int | None,
    now: datetime | None,
) -> bytes:
    bundle = _bundle(kind, links, total, now)
    if entries:
        bundle["entry"] = entries
    return resource_json.format(bundle)


def _bundle(
    kind: str, links: Sequence[Link], total: int | None, now: datetime | None
) -> dict[str, Any]:
    """A Bundle without its entries, which come last."""
    bundle: dict[str, Any] = {"resourceType": "Bundle"}
    if now is not None:
        bundle["meta"] = {"lastUpdated": format_instant(now)}
    bundle["type"] = kind
    if total is not None:
        bundle["total"] = total
    if links:
        bundle["link"] = [{"relation": link.relation, "url": link.url} for link in links]
    return bundle


_SEARCH: Mapping[Mode, bytes] = {
    mode: b',"search":{"mode":"%b"}},' % mode.encode() for mode in get_args(Mode)
}


def _search_entry(base_url: str, entry: SearchEntry) -> tuple[bytes, ...]:
    """Its text in parts, with a comma behind it."""
    key, body, mode = entry
    if key is None:
        return b'{"resource":', body, _SEARCH[mode]
    full_url = resource_json.format(f"{base_url}/{key.resource_type}/{key.resource_id}")
    return b'{"fullUrl":', full_url, b',"resource":', body, _SEARCH[mode]


_STATUSES = {"create": "201", "update-create": "201", "update": "200", "delete": "204"}
_METHODS = {"create": "POST", "update-create": "PUT", "update": "PUT", "delete": "DELETE"}


def _history_entry(base_url: str, version: Version) -> dict[str, Any]:
    entry: dict[str, Any] = {"fullUrl": f"{base_url}/{version.key}"}
    if version.body is not None:
        entry["resource"] = msgspec.Raw(version.body)
    is_create = version.interaction == "create"
    entry["request"] = {
        "method": _METHODS[version.interaction],
        "url": version.key.resource_type if is_create else str(version.key),
    }
    entry["response"] = {
        "status": _STATUSES[version.interaction],
        "etag": etag.format(version.version_id),
        "lastModified": format_instant(version.last_updated),
    }
    return entry


def _response_entry(base_url: str, entry: ResponseEntry) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if entry.key is not None:
        said["fullUrl"] = f"{base_url}/{entry.key}"
    if entry.resource is not None:
        said["resource"] = msgspec.Raw(entry.resource)
    response: dict[str, Any] = {"status": entry.status}
    if entry.location is not None:
        response["location"] = entry.location
    if entry.version is not None:
        response["etag"] = etag.format(entry.version.version_id)
        response["lastModified"] = format_instant(entry.version.last_updated)
    if entry.outcome is not None:
        response["outcome"] = msgspec.Raw(entry.outcome)
    said["response"] = response
    return said
