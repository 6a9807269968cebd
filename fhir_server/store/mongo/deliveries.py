"""Deliveries as documents, and back."""

from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.database import Database

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


def is_overtaken(database: Database[Document], session: ClientSession, parked: Document) -> bool:
    """Whether a newer version of its resource went out to the same sink."""
    newer = [
        found["_id"]
        for found in database["versions"].find(
            {"y": parked["y"], "k": parked["k"], "v": {"$gt": parked["v"]}},
            {"_id": 1},
            session=session,
        )
    ]
    gone_out = [DeliveryState.SENT.value, DeliveryState.ACCEPTED.value]
    return bool(newer) and bool(
        database["deliveries"].find_one(
            {"n": parked["n"], "q": {"$in": newer}, "st": {"$in": gone_out}},
            {"_id": 1},
            session=session,
        )
    )
