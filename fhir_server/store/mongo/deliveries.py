"""Deliveries and receipts as documents, and back."""

from collections.abc import Iterable

from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.database import Database

from fhir_server.core.identity import ResourceKey
from fhir_server.core.receipt import Receipt, ReceiptLine
from fhir_server.core.version import Version
from fhir_server.store.mongo.rows import from_milliseconds, to_milliseconds
from fhir_server.store.mongo.steps import Document, Filter
from fhir_server.store.protocol import Delivery, DeliveryState, Routed

WAITING = [DeliveryState.QUEUED.value, DeliveryState.SENT.value]


def due(sink: str, now: int) -> Filter:
    # A sent one is due again when its lease has run out.
    return {"n": sink, "o": True, "st": {"$in": WAITING}, "t": {"$lte": now}}


def to_document(delivery_id: int, wanted: Routed, version: Version, now: int) -> Document:
    patient = wanted.patient.partition("/")[2]
    return {
        "_id": delivery_id,
        "n": wanted.sink,
        **({"s": patient} if patient else {}),
        "q": version.sequence,
        "y": version.key.resource_type,
        "k": version.key.resource_id,
        "v": version.version_id,
        "g": wanted.group,
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


def is_overtaken(database: Database[Document], session: ClientSession, stopped: Document) -> bool:
    """Whether a newer version of its resource went out to the same sink."""
    newer = [
        found["_id"]
        for found in database["versions"].find(
            {"y": stopped["y"], "k": stopped["k"], "v": {"$gt": stopped["v"]}},
            {"_id": 1},
            session=session,
        )
    ]
    gone_out = [DeliveryState.SENT, DeliveryState.ACCEPTED, DeliveryState.REGISTERED]
    states = {"$in": [state.value for state in gone_out]}
    return bool(newer) and bool(
        database["deliveries"].find_one(
            {"n": stopped["n"], "q": {"$in": newer}, "st": states}, {"_id": 1}, session=session
        )
    )


def lines_of(deliveries: Iterable[Document]) -> tuple[ReceiptLine, ...]:
    return tuple(
        ReceiptLine(each["_id"], each["q"], f"{each['y']}/{each['k']}/_history/{each['v']}")
        for each in deliveries
    )


def to_receipt_document(receipt: Receipt) -> Document:
    return {
        "n": receipt.sink,
        "i": receipt.number,
        "a": to_milliseconds(receipt.at),
        "st": receipt.state,
        "d": receipt.detail,
        "l": [list(line) for line in receipt.lines],
        "h": receipt.digest,
    }


def to_receipt(found: Document) -> Receipt:
    return Receipt(
        found["n"],
        found["i"],
        from_milliseconds(found["a"]),
        found["st"],
        found["d"],
        tuple(ReceiptLine(*line) for line in found["l"]),
        found["h"],
    )
