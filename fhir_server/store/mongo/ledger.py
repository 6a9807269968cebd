"""MongoLedger: what became of deliveries, with a chain of receipts for each sink.

Whatever ends deliveries of a sink writes the sink's own document in its transaction, which
has the number and digest of the last receipt: so receipts follow one another.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby

from pymongo import ReturnDocument
from pymongo.read_concern import ReadConcern
from pymongo.synchronous.client_session import ClientSession

from fhir_server.core.identity import ResourceKey
from fhir_server.core.receipt import Receipt, sealed
from fhir_server.store.ledger import (
    STOPPED,
    Delivery,
    DeliveryEvent,
    DeliveryState,
    ReceiptHead,
)
from fhir_server.store.mongo.deliveries import (
    is_overtaken,
    lines_of,
    to_delivery,
    to_receipt,
    to_receipt_document,
)
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.failures import translated
from fhir_server.store.mongo.rows import from_milliseconds, to_milliseconds
from fhir_server.store.mongo.steps import Document, Filter
from fhir_server.store.mongo.transactor import OutOfDate, Transactor

PATIENCE = 15.0

_SINK = "sink:"
# Those that need no further look; the partial indexes leave them out.
_DONE = frozenset({DeliveryState.ACCEPTED, DeliveryState.REGISTERED})


class MongoLedger:
    """Blocking; safe from any thread and in any number of processes."""

    def __init__(
        self,
        connection: Connection,
        transactor: Transactor,
        clock: Callable[[], datetime],
    ) -> None:
        database = connection.database
        self._indexes = connection.indexes
        self._database = database.with_options(read_concern=ReadConcern("majority"))
        self._deliveries = database["deliveries"]
        self._receipts = database["receipts"]
        self._state = database["state"]
        self._transactor = transactor
        self._clock = clock
        self._known_sinks: set[str] = set()

    def acknowledge(self, deliveries: Sequence[Delivery], owner: str, receipt: str) -> None:
        self._settle(deliveries, owner, DeliveryState.ACCEPTED, receipt)

    def park(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        self._settle(deliveries, owner, DeliveryState.PARKED, reason)

    def reject(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        self._settle(deliveries, owner, DeliveryState.REJECTED, reason)

    def withhold(self, deliveries: Sequence[Delivery], owner: str, reason: str) -> None:
        self._settle(deliveries, owner, DeliveryState.WITHHELD, reason)

    def defer(self, deliveries: Sequence[Delivery], owner: str, delay: float, reason: str) -> None:
        now = self._now()
        event = [now, DeliveryState.QUEUED.value, reason]
        change = {
            "$set": {"st": "queued", "h": now, "r": reason, "t": now + round(delay * 1000)},
            "$unset": {"w": ""},
            "$push": {"e": event},
        }
        held = _held(deliveries, owner)
        self._transactor.run(
            lambda session: self._deliveries.update_many(held, change, session=session), PATIENCE
        )

    def conclude(self, delivery_ids: Sequence[int], state: DeliveryState, detail: str) -> int:
        accepted = {"_id": {"$in": list(delivery_ids)}, "st": DeliveryState.ACCEPTED.value}
        with translated():
            sinks = sorted(self._deliveries.distinct("n", accepted))
        field = "r" if state is DeliveryState.REJECTED else "p"

        def conclude(session: ClientSession) -> int:
            count = 0
            for sink in sinks:
                found = self._end(session, sink, accepted, state, detail, {field: detail}, {})
                if state is DeliveryState.REGISTERED:
                    # Counted, because nobody could count those that are done.
                    self._lock(session, sink, registered=found)
                count += found
            return count

        return self._transactor.run(conclude, PATIENCE) if sinks else 0

    def retry(self, delivery_ids: Sequence[int]) -> int:
        with translated():
            sinks = self._deliveries.distinct("n", {"_id": {"$in": list(delivery_ids)}})
        for sink in sinks:
            self._know(sink)
        return self._transactor.run(
            lambda session: self._retry(session, sorted(sinks), list(delivery_ids)), PATIENCE
        )

    def list(
        self,
        sink: str | None,
        states: Sequence[DeliveryState],
        limit: int,
        after: int,
        *,
        patient: ResourceKey | None = None,
        since: datetime | None = None,
    ) -> tuple[Delivery, ...]:
        filter_: Filter = {"_id": {"$gt": after}}
        if sink is not None:
            filter_["n"] = sink
        if patient is not None:
            filter_["s"] = patient.resource_id
        if since is not None:
            filter_["a"] = {"$gte": to_milliseconds(since)}
        if states:
            filter_["st"] = {"$in": [state.value for state in states]}
            if _DONE.isdisjoint(states):
                filter_["o"] = True
        with translated():
            found = self._database["deliveries"].find(filter_, {"e": 0}).sort("_id", 1)
            return tuple(map(to_delivery, found.limit(limit))) if limit > 0 else ()

    def show(self, delivery_id: int) -> tuple[Delivery, tuple[DeliveryEvent, ...]] | None:
        with translated():
            found = self._database["deliveries"].find_one({"_id": delivery_id})
        if found is None:
            return None
        events = tuple(
            DeliveryEvent(from_milliseconds(at), DeliveryState(state), detail)
            for at, state, detail in found["e"]
        )
        return to_delivery(found), events

    def counts(self) -> dict[tuple[str, DeliveryState], int]:
        # Those accepted are nearly all that ever were: they are what is left.
        with translated():
            sinks = {
                found["_id"].removeprefix(_SINK): found
                for found in self._database["state"].find({"_id": {"$regex": f"^{_SINK}"}})
            }
            open_ = list(
                self._database["deliveries"].aggregate(
                    [
                        # By an index of the open ones alone: the accepted are many.
                        {"$match": {"o": True, "n": {"$gte": ""}}},
                        {"$group": {"_id": {"n": "$n", "st": "$st"}, "count": {"$sum": 1}}},
                    ],
                    hint=self._hint("due"),
                )
            )
        counts: dict[tuple[str, DeliveryState], int] = {}
        accepted = {sink: found["made"] for sink, found in sinks.items()}
        for sink, found in sinks.items():
            if registered := found.get("registered", 0):
                counts[sink, DeliveryState.REGISTERED] = registered
                accepted[sink] -= registered
        for found in open_:
            sink = found["_id"]["n"]
            counts[sink, DeliveryState(found["_id"]["st"])] = found["count"]
            accepted[sink] -= found["count"]
        for sink, number in accepted.items():
            if number > 0:
                counts[sink, DeliveryState.ACCEPTED] = number
        return counts

    def receipts(self, sink: str, after: int, limit: int) -> tuple[Receipt, ...]:
        with translated():
            found = self._database["receipts"].find({"n": sink, "i": {"$gt": after}})
            return tuple(map(to_receipt, found.sort("i", 1).limit(limit))) if limit > 0 else ()

    def receipt_heads(self) -> dict[str, ReceiptHead]:
        with translated():
            found = list(self._database["state"].find({"_id": {"$regex": f"^{_SINK}"}}))
        return {
            each["_id"].removeprefix(_SINK): ReceiptHead(
                each["receipts"], each["digest"], each.get("audited", 0)
            )
            for each in sorted(found, key=lambda each: str(each["_id"]))
            if each.get("receipts")
        }

    def receipt_numbers(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        with translated():
            found = self._database["deliveries"].find(
                {"_id": {"$in": list(delivery_ids)}}, {"i": 1}
            )
            return {each["_id"]: each.get("i", 0) for each in found}

    def audited(self, sink: str, number: int) -> None:
        with translated():
            self._state.update_one({"_id": _SINK + sink}, {"$max": {"audited": number}})

    def _settle(
        self, deliveries: Sequence[Delivery], owner: str, state: DeliveryState, detail: str
    ) -> None:
        said = {"p": detail, "r": ""} if state in _DONE else {"r": detail}
        for sink, of_sink in groupby(sorted(deliveries, key=_sink), key=_sink):
            held = _held(tuple(of_sink), owner)

            def end(session: ClientSession, sink: str = sink, held: Filter = held) -> int:
                return self._end(session, sink, held, state, detail, said, {"w": ""})

            self._transactor.run(end, PATIENCE)

    def _end(
        self,
        session: ClientSession,
        sink: str,
        which: Filter,
        state: DeliveryState,
        detail: str,
        changed: Document,
        removed: Document,
    ) -> int:
        """Put deliveries into a state that lasts, with their receipt; how many."""
        head = self._lock(session, sink)
        found = list(
            self._deliveries.find({**which, "n": sink}, {"e": 0}, session=session).sort("q", 1)
        )
        if not found:
            return 0
        now, lines = self._now(), lines_of(found)
        receipt = sealed(
            Receipt(
                sink,
                head.get("receipts", 0) + 1,
                from_milliseconds(now),
                state.value,
                detail,
                lines,
            ),
            head.get("digest", ""),
        )
        is_open = {"$unset": {**removed, "o": ""}} if state in _DONE else {"$unset": removed}
        kept = {} if state in _DONE else {"o": True}
        self._deliveries.update_many(
            {"_id": {"$in": [each["_id"] for each in found]}},
            {
                "$set": {"st": state.value, "h": now, "i": receipt.number, **changed, **kept},
                "$push": {"e": [now, state.value, detail]},
                **({} if not is_open["$unset"] else is_open),
            },
            session=session,
        )
        self._receipts.insert_one(to_receipt_document(receipt), session=session)
        self._state.update_one(
            {"_id": _SINK + sink},
            {"$set": {"receipts": receipt.number, "digest": receipt.digest}},
            session=session,
        )
        return len(found)

    def _retry(self, session: ClientSession, sinks: Iterable[str], ids: Sequence[int]) -> int:
        count = 0
        for sink in sinks:
            self._lock(session, sink)
            stopped: Filter = {
                "_id": {"$in": ids},
                "n": sink,
                "st": {"$in": [state.value for state in STOPPED]},
            }
            found = list(self._deliveries.find(stopped, {"e": 0}, session=session))
            overtaken = {
                each["_id"] for each in found if is_overtaken(self._database, session, each)
            }
            for state, detail, chosen in (
                (DeliveryState.SUPERSEDED, "a newer version went out", overtaken),
                (DeliveryState.QUEUED, "retried", {e["_id"] for e in found} - overtaken),
            ):
                due = {"t": self._now()}
                which: Filter = {"_id": {"$in": sorted(chosen)}}
                ended = self._end(session, sink, which, state, detail, due, {"w": ""})
                count += ended if state is DeliveryState.QUEUED else 0
        return count

    def _know(self, sink: str) -> None:
        """Make the sink's document, outside of any transaction: two would collide on it."""
        if sink not in self._known_sinks:
            with translated():
                self._state.update_one(
                    {"_id": _SINK + sink}, {"$setOnInsert": {"made": 0, "turn": 0}}, upsert=True
                )
            self._known_sinks.add(sink)

    def _lock(
        self, session: ClientSession, sink: str, made: int = 0, registered: int = 0
    ) -> Document:
        locked = self._state.find_one_and_update(
            {"_id": _SINK + sink},
            {"$inc": {"turn": 1, "made": made, "registered": registered}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if locked is None:
            raise OutOfDate
        return locked

    def _hint(self, index: str) -> str:
        return self._indexes.required("deliveries", index)

    def _now(self) -> int:
        return to_milliseconds(self._clock())


def _sink(delivery: Delivery) -> str:
    return delivery.sink


def _held(deliveries: Sequence[Delivery], owner: str) -> Filter:
    ids = [delivery.delivery_id for delivery in deliveries]
    return {"_id": {"$in": ids}, "w": owner, "st": DeliveryState.SENT.value}
