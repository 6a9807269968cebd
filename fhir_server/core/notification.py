"""Notifications of the R5 backport for R4: a history Bundle led by the status Parameters.

https://hl7.org/fhir/uv/subscriptions-backport/notifications.html
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import msgspec

from fhir_server.core import etag
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.subscription import Content, Status
from fhir_server.core.version import Version, format_instant

_PROFILE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
_STATUS_PROFILE = f"{_PROFILE}subscription-status-r4"
_BUNDLE_PROFILE = f"{_PROFILE}subscription-notification-r4"


class Kind(StrEnum):
    """What a notification is sent for."""

    HANDSHAKE = "handshake"
    HEARTBEAT = "heartbeat"
    EVENT = "event-notification"
    QUERY_STATUS = "query-status"
    QUERY_EVENT = "query-event"


class Event(NamedTuple):
    """A version that is told, and which event of its subscription it is."""

    number: int
    version: Version


class Standing(NamedTuple):
    """A subscription as a notification tells of it; `total` events had it so far.

    `base_url` is "" where the server's is not known: references are relative then.
    """

    key: ResourceKey
    status: Status
    topic: str
    total: int
    error: str = ""
    base_url: str = ""


def notification(
    kind: Kind, standing: Standing, events: Sequence[Event], content: Content, now: datetime
) -> Resource:
    """A Bundle that tells `events`; the same at every attempt but for its timestamp."""
    status = status_parameters(kind, standing, events, content)
    subscription = _reference(standing, standing.key)
    entries = [
        {
            "fullUrl": f"urn:uuid:{status['id']}",
            "resource": status,
            "request": {"method": "GET", "url": f"{subscription}/$status"},
            "response": {"status": "200"},
        }
    ]
    if content is Content.FULL_RESOURCE:
        entries += [_entry(standing, event.version) for event in events]
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [_BUNDLE_PROFILE]},
        "type": "history",
        "timestamp": format_instant(now),
        "entry": entries,
    }


def status_parameters(
    kind: Kind, standing: Standing, events: Sequence[Event], content: Content
) -> Resource:
    """How a subscription stands, and which events this is about."""
    parameters: list[dict[str, Any]] = [
        {
            "name": "subscription",
            "valueReference": {"reference": _reference(standing, standing.key)},
        }
    ]
    if standing.topic and not (events and content is Content.EMPTY):
        parameters.append({"name": "topic", "valueCanonical": standing.topic})
    parameters += [
        {"name": "status", "valueCode": standing.status.value},
        {"name": "type", "valueCode": kind.value},
        {"name": "events-since-subscription-start", "valueString": str(standing.total)},
        *(
            {"name": "notification-event", "part": _event(standing, event, content)}
            for event in events
        ),
    ]
    if standing.error:
        parameters.append({"name": "error", "valueCodeableConcept": {"text": standing.error}})
    told = ",".join(str(event.number) for event in events)
    # Made from what is told, so that a notification sent again is recognized.
    name = f"{standing.key}/{kind}/{standing.status}/{standing.total}/{content}/{told}"
    return {
        "resourceType": "Parameters",
        "id": str(uuid5(NAMESPACE_URL, name)),
        "meta": {"profile": [_STATUS_PROFILE]},
        "parameter": parameters,
    }


def _event(standing: Standing, event: Event, content: Content) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": format_instant(event.version.last_updated)},
    ]
    if content is not Content.EMPTY:
        reference = {"reference": _reference(standing, event.version.key)}
        parts.append({"name": "focus", "valueReference": reference})
    return parts


_METHODS = {"create": "PUT", "update-create": "PUT", "update": "PUT", "delete": "DELETE"}
_STATUSES = {"create": "201", "update-create": "201", "update": "200", "delete": "204"}


def _entry(standing: Standing, version: Version) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if standing.base_url:
        entry["fullUrl"] = _reference(standing, version.key)
    if version.body is not None:
        entry["resource"] = msgspec.Raw(version.body)
    entry["request"] = {"method": _METHODS[version.interaction], "url": str(version.key)}
    entry["response"] = {
        "status": _STATUSES[version.interaction],
        "etag": etag.format(version.version_id),
        "lastModified": format_instant(version.last_updated),
    }
    return entry


def _reference(standing: Standing, key: ResourceKey) -> str:
    return f"{standing.base_url}/{key}" if standing.base_url else str(key)
