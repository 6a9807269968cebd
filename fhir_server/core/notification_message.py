"""Notifications as FHIR messages: a message Bundle led by its MessageHeader.

https://hl7.org/fhir/R4/messaging.html
"""

from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from fhir_server.core.notification import Event, Standing
from fhir_server.core.resource_json import Resource
from fhir_server.core.subscription import Subscription
from fhir_server.core.version import format_instant

EVENT_SYSTEM = "https://pmp.example/fhir/CodeSystem/message-event"
EVENT_CODE = "subscription-notification"


def of_bundle(
    subscription: Subscription, standing: Standing, bundle: Resource, now: datetime
) -> Resource:
    """A message about a notification Bundle, which is its focus."""
    # The status Parameters are named by what is told: sent again it is the same message.
    told = UUID(bundle["entry"][0]["resource"]["id"])
    focus = f"urn:uuid:{uuid5(told, 'bundle')}"
    entry = {"fullUrl": focus, "resource": bundle}
    return _message(subscription, standing, told, [{"reference": focus}], [entry], now)


def of_event(
    subscription: Subscription, standing: Standing, event: Event, now: datetime
) -> Resource:
    """R4's own: a message about the resource, which is in it where there is a payload."""
    version = event.version
    told = uuid5(NAMESPACE_URL, f"{subscription.key}/{version.key}/_history/{version.version_id}")
    reference = f"{standing.base_url}/{version.key}" if standing.base_url else str(version.key)
    entries: list[dict[str, Any]] = []
    if subscription.channel.media_type and version.body is not None:
        entries.append({"fullUrl": reference, "resource": msgspec.Raw(version.body)})
        if not standing.base_url:
            entries[0]["fullUrl"] = f"urn:uuid:{uuid5(told, 'focus')}"
            reference = entries[0]["fullUrl"]
    focus = [{"reference": reference}] if entries else []
    return _message(subscription, standing, told, focus, entries, now)


def _message(
    subscription: Subscription,
    standing: Standing,
    told: UUID,
    focus: list[dict[str, Any]],
    entries: list[dict[str, Any]],
    now: datetime,
) -> Resource:
    header: dict[str, Any] = {
        "resourceType": "MessageHeader",
        "id": str(uuid5(told, "message")),
        "eventCoding": {"system": EVENT_SYSTEM, "code": EVENT_CODE},
        "destination": [{"endpoint": subscription.channel.endpoint}],
        "source": {
            "name": "fhir-server",
            "endpoint": standing.base_url or f"urn:uuid:{uuid5(NAMESPACE_URL, subscription.sink)}",
        },
    }
    if focus:
        header["focus"] = focus
    return {
        "resourceType": "Bundle",
        "id": str(uuid5(told, "message-bundle")),
        "type": "message",
        "timestamp": format_instant(now),
        "entry": [{"fullUrl": f"urn:uuid:{header['id']}", "resource": header}, *entries],
    }
