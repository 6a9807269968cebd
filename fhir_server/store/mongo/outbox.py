"""MongoOutbox: deliveries made from the commit order, claimed under a lease, kept.

Whatever changes which deliveries of a sink may go out (a fan-out, a claim, a retry)
writes the sink's own document in its transaction, so two of them never pass each other.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from pymongo.synchronous.client_session import ClientSession

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.errors import NotFound
from fhir_server.store.mongo import blocking, positions, reads
from fhir_server.store.mongo.deliveries import WAITING, due, to_delivery, to_document
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.failures import translated
from fhir_server.store.mongo.ledger import PATIENCE, MongoLedger
from fhir_server.store.mongo.rows import from_milliseconds
from fhir_server.store.mongo.search import search
from fhir_server.store.mongo.steps import Document, Filter, Steps
from fhir_server.store.mongo.transactor import Transactor, take_turn
from fhir_server.store.protocol import Decision, Delivery, DeliveryState, Page, Routed

T = TypeVar("T")

Documents = list[Document]

_CANDIDATES = 1_000


class MongoOutbox(MongoLedger):
    """Blocking; safe from any thread and in any number of processes."""

    def __init__(
        self,
        connection: Connection,
        transactor: Transactor,
        clock: Callable[[], datetime],
        commit: Callable[[Decision[Any]], Any],
    ) -> None:
        super().__init__(connection, transactor, clock)
        self._commit = commit

    def fan_out(
        self,
        route: Callable[[Version], Sequence[Routed]],
        limit: int,
        *,
        kind: str = "",
        begin: int = 0,
    ) -> int:
        with translated():
            position = positions.read(self._database["state"], kind)
            steps = reads.feed(max(position, begin), limit)
            versions = blocking.run(steps, self._database, self._indexes)
        if not versions:
            return 0
        # Outside of the transaction, which may run again: each version is looked at once.
        routed = [(version, tuple(dict.fromkeys(route(version)))) for version in versions]
        for sink in {wanted.sink for _, wants in routed for wanted in wants}:
            self._know(sink)
        return self._transactor.run(lambda s: self._fan_out(s, kind, position, routed), PATIENCE)

    def claim(self, sink: str, owner: str, lease: float, limit: int) -> tuple[Delivery, ...]:
        with translated():
            first = self._database["deliveries"].find_one(
                due(sink, self._now()), {"_id": 1}, hint=self._hint("due")
            )
        if first is None or limit < 1:
            return ()
        self._know(sink)
        return self._transactor.run(
            lambda session: self._claim(session, sink, owner, round(lease * 1000), limit),
            PATIENCE,
        )

    def renew(self, deliveries: Sequence[Delivery], owner: str, lease: float) -> None:
        ids = [delivery.delivery_id for delivery in deliveries]
        with translated():
            self._deliveries.update_many(
                {"_id": {"$in": ids}, "w": owner, "st": DeliveryState.SENT.value},
                {"$set": {"t": self._now() + round(lease * 1000)}},
            )

    def version(self, delivery: Delivery) -> Version:
        found = self.read(delivery.key, delivery.version_id)
        if found is None:
            raise NotFound(f"{delivery.key} has no version {delivery.version_id}")
        return found

    def read(self, key: ResourceKey, version_id: int | None = None) -> Version | None:
        steps = reads.read(key) if version_id is None else reads.vread(key, version_id)
        with translated():
            return blocking.run(steps, self._database, self._indexes)

    def oldest_due(self) -> datetime | None:
        with translated():
            found = self._database["deliveries"].find_one(
                {"o": True, "st": {"$in": WAITING}},
                {"a": 1},
                sort=[("a", 1)],
                hint=self._hint("age"),
            )
        return from_milliseconds(found["a"]) if found else None

    def oldest_open(self, sink: str) -> Delivery | None:
        open_: Filter = {"n": sink, "o": True, "st": {"$in": WAITING}}
        with translated():
            found = self._database["deliveries"].find_one(open_, {"e": 0}, sort=[("q", 1)])
        return None if found is None else to_delivery(found)

    def state_of(self, sink: str, sequence: int) -> DeliveryState | None:
        with translated():
            found = self._database["deliveries"].find_one(
                {"n": sink, "q": sequence}, {"st": 1}, hint=self._hint("version")
            )
        return None if found is None else DeliveryState(found["st"])

    def newest(self) -> int:
        with translated():
            outbox = self._database["state"].find_one({"_id": "outbox"}, {"deliveries": 1})
        return outbox["deliveries"] if outbox else 0

    def waiting(self, prefix: str) -> tuple[str, ...]:
        due_now = due("", self._now()) | {"n": {"$gte": prefix, "$lt": prefix + "\U0010ffff"}}
        with translated():
            return tuple(sorted(self._database["deliveries"].distinct("n", due_now)))

    def made(self, sink: str, after: int = 0, up_to: int | None = None) -> int:
        behind: Filter = {"$gt": after} | ({} if up_to is None else {"$lte": up_to})
        with translated():
            return self._database["deliveries"].count_documents(
                {"n": sink, "q": behind}, hint=self._hint("version")
            )

    def numbered(self, sink: str, first: int, limit: int) -> tuple[Delivery, ...]:
        with translated():
            found = self._database["deliveries"].find(
                {"n": sink}, {"e": 0}, hint=self._hint("version")
            )
            page = found.sort("q", 1).skip(first - 1).limit(limit) if limit > 0 else ()
            return tuple(map(to_delivery, page))

    def search(self, query: Query) -> Page:
        with translated():
            return blocking.run(search(query), self._database, self._indexes)

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        def steps() -> Steps[tuple[int, tuple[Version, ...]]]:
            newest: int = (yield from reads.commits())["sequence"]
            return newest, (yield from reads.changes(after, newest, resource_types))

        with translated():
            return blocking.run(steps(), self._database, self._indexes)

    def commit(self, decide: Decision[T]) -> T:
        return cast(T, self._commit(decide))

    def _fan_out(
        self,
        session: ClientSession,
        kind: str,
        position: int,
        routed: Sequence[tuple[Version, Sequence[Routed]]],
    ) -> int:
        outbox = take_turn(self._state, "outbox", session)
        if positions.read(self._state, kind, session) != position:
            # Another worker was faster: there may be more to look at, but not from here.
            session.abort_transaction()
            return 0
        now = self._now()
        made: dict[str, int] = {}
        documents: Documents = []
        for version, wants in routed:
            for wanted in wants:
                delivery_id = outbox["deliveries"] + len(documents) + 1
                documents.append(to_document(delivery_id, wanted, version, now))
                made[wanted.sink] = made.get(wanted.sink, 0) + 1
        for sink in sorted(made):
            self._lock(session, sink, made[sink])
        if documents:
            self._deliveries.insert_many(documents, session=session)
        self._state.update_one(
            {"_id": "outbox"}, {"$inc": {"deliveries": len(documents)}}, session=session
        )
        positions.move(self._state, kind, routed[-1][0].sequence, session)
        return len(routed)

    def _claim(
        self, session: ClientSession, sink: str, owner: str, lease: int, limit: int
    ) -> tuple[Delivery, ...]:
        self._lock(session, sink)
        now = self._now()
        candidates = self._deliveries.find(
            due(sink, now), {"g": 1}, session=session, hint=self._hint("due")
        ).sort([("t", 1), ("_id", 1)])
        tried: set[str] = set()
        for candidate in candidates.limit(_CANDIDATES):
            group = candidate["g"]
            if group in tried:
                continue
            tried.add(group)
            chosen = self._unblocked(session, sink, group, now)[:limit]
            if not chosen:
                continue
            claimed = {"$in": [found["_id"] for found in chosen]}
            event = [now, DeliveryState.SENT.value, owner]
            self._deliveries.update_many(
                {"_id": claimed},
                {
                    "$set": {"st": "sent", "w": owner, "t": now + lease, "h": now},
                    "$inc": {"c": 1},
                    "$push": {"e": event},
                },
                session=session,
            )
            found = self._deliveries.find({"_id": claimed}, {"e": 0}, session=session)
            return tuple(map(to_delivery, found.sort("q", 1)))
        session.abort_transaction()
        return ()

    def _unblocked(self, session: ClientSession, sink: str, group: str, now: int) -> Documents:
        """Due deliveries of the group, without those that an earlier version must precede."""
        found_due = list(
            self._deliveries.find(
                {**due(sink, now), "g": group}, {"q": 1, "y": 1, "k": 1},
                session=session, hint=self._hint("group"),
            ).sort("q", 1).limit(_CANDIDATES)
        )  # fmt: skip
        by_type: dict[str, list[str]] = {}
        for found in found_due:
            by_type.setdefault(found["y"], []).append(found["k"])
        first: dict[tuple[str, str], int] = {}
        for resource_type, resource_ids in by_type.items():
            waiting = self._deliveries.find(
                {
                    "n": sink,
                    "y": resource_type,
                    "k": {"$in": list(dict.fromkeys(resource_ids))},
                    "o": True,
                    "st": {"$in": WAITING},
                },
                {"q": 1, "y": 1, "k": 1},
                session=session,
                hint=self._hint("order"),
            )
            for found in waiting:
                key = (found["y"], found["k"])
                first[key] = min(found["q"], first.get(key, found["q"]))
        return [found for found in found_due if found["q"] == first[found["y"], found["k"]]]
