"""Deliveries as documents, and back."""

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.store.mongo.rows import from_milliseconds
from fhir_server.store.mongo.steps import Document, Filter
from fhir_server.store.protocol import Delivery, DeliveryState

WAITING = [DeliveryState.QUEUED.value, DeliveryState.SENT.value]


def due(sink: str, now: int) -> Filter:
    # A sent one is due again when its lease has run out.
    return {"n": sink, "o": True, "st": {"$in": WAITING}, "t": {"$lte": now}}


def to_document(delivery_id: int, sink: str, group: str, version: Version, now: int) -> Document:
    return {
        "_id": delivery_id,
        "n": sink,
        "q": version.sequence,
        "y": version.key.resource_type,
        "k": version.key.resource_id,
        "v": version.version_id,
        "g": group,
        "st": DeliveryState.QUEUED.value,
        "c": 0,
        "t": now,
        "a": now,
        "h": now,
        "r": "",
        "p": "",
        "o": True,
        "e": [[now, DeliveryState.QUEUED.value, ""]],
    }


def to_delivery(found: Document) -> Delivery:
    return Delivery(
        found["_id"],
        found["n"],
        found["q"],
        ResourceKey(found["y"], found["k"]),
        found["v"],
        found["g"],
        DeliveryState(found["st"]),
        found["c"],
        from_milliseconds(found["t"]),
        from_milliseconds(found["a"]),
        from_milliseconds(found["h"]),
        found["r"],
        found["p"],
    )
