"""MongoTransaction: what one group of decisions sees and puts, in commit order.

MongoDB has no savepoints, so puts are gathered here; what a later decision must see of
them is answered from memory. Those of finished decisions are written while the next one
runs, the last ones at the end, and only a search writes those of its own decision.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.errors import ExecutionTimeout, PyMongoError
from pymongo.synchronous.client_session import ClientSession

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version
from fhir_server.errors import VersionConflict
from fhir_server.store.mongo import blocking, keys, reads
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.failures import translate
from fhir_server.store.mongo.own_groups import OwnGroups
from fhir_server.store.mongo.rows import MILESTONE, RowBuilder
from fhir_server.store.mongo.search import search
from fhir_server.store.mongo.steps import Document, Steps
from fhir_server.store.protocol import Page
from fhir_server.store.trail import TrailEntry

T = TypeVar("T")

_IDENTIFIER = "identifier" + keys.SEPARATOR
_AT_ONCE = 1_000
_PREFIXES_AT_ONCE = 100
# Below that a command costs more than the wait for it.
_WORTH_WRITING = 100


class _Put:
    """One version on its way in: its document and what it supersedes."""

    __slots__ = ("document", "predecessor", "version")

    def __init__(self, version: Version, document: Document, predecessor: int) -> None:
        self.version = version
        self.document = document
        self.predecessor = predecessor


class MongoTransaction:
    """A group's transaction; `begin` and `drop` bracket each decision.

    `commits` is the counter of commits as it was taken, `own` what its process committed.
    """

    def __init__(
        self,
        session: ClientSession,
        connection: Connection,
        rows: RowBuilder,
        now: datetime,
        commits: Document,
        own: OwnGroups | None = None,
    ) -> None:
        self._own = own or OwnGroups()
        self._session = session
        self._database = connection.database
        self._indexes = connection.indexes
        self._is_sharded = connection.is_sharded
        self._rows = rows
        self._now = now
        self._commits = commits
        self._committed: int = commits["sequence"]
        self._puts: list[_Put] = []
        self._recorded = 0
        self.records: list[TrailEntry] = []
        self._written = 0
        self._begun = 0
        self._latest: dict[ResourceKey, list[_Put]] = {}
        self._of_type: dict[str, list[_Put]] = {}
        self._identified: dict[tuple[str, str], list[_Put]] = {}
        self._read: dict[ResourceKey, Version | None] = {}
        self._changed: dict[tuple[str, ...], tuple[int, tuple[Version, ...]]] = {}
        self._ahead: Future[None] | None = None
        self.bytes = 0
        self.failure: Exception | None = None

    @property
    def now(self) -> datetime:
        return self._now

    @property
    def sequence(self) -> int:
        """The newest, with what was put."""
        return self._committed + len(self._puts)

    @property
    def committed(self) -> int:
        """The newest, without what was put."""
        return self._committed

    @property
    def resource_types(self) -> tuple[str, ...]:
        """What was put."""
        return tuple(each for each, puts in self._of_type.items() if puts)

    def __len__(self) -> int:
        return len(self._puts)

    def read(self, key: ResourceKey) -> Version | None:
        put = self._latest.get(key)
        if put:
            return put[-1].version
        if key not in self._read:
            self._read[key] = self._run(reads.read(key))
        return self._read[key]

    def read_many(self, keys: Sequence[ResourceKey]) -> dict[ResourceKey, Version]:
        unread = [k for k in dict.fromkeys(keys) if k not in self._latest and k not in self._read]
        for start in range(0, len(unread), _AT_ONCE):
            for version in self._run(reads.read_many(unread[start : start + _AT_ONCE])):
                self._read[version.key] = version
        found: dict[ResourceKey, Version] = {}
        for key in keys:
            put = self._latest.get(key)
            current = put[-1].version if put else self._read.get(key)
            if current is not None and not current.is_deletion:
                found[key] = current
        return found

    def search(self, query: Query) -> Page:
        self.write()
        try:
            return self._run(search(query, {**self._commits, "sequence": self.sequence}))
        except ExecutionTimeout as error:
            self.failure = translate(error, may_be_costly=True)
            raise

    def find(
        self, resource_type: str, identifiers: Iterable[tuple[str | None, str]]
    ) -> dict[tuple[str | None, str], tuple[ResourceKey, ...]]:
        exact: dict[str, tuple[str | None, str]] = {}
        open_ended: dict[str, tuple[str | None, str]] = {}
        for system, value in dict.fromkeys(identifiers):
            if system is None:
                open_ended[f"{_IDENTIFIER}{keys.escape(value)}\x1f"] = (system, value)
            else:
                exact[keys.pair("identifier", value, system)] = (system, value)
        found: dict[tuple[str | None, str], dict[ResourceKey, None]] = {}

        def note(key: ResourceKey, index_key: str) -> None:
            asked = exact.get(index_key)
            if asked is not None:
                found.setdefault(asked, {})[key] = None
            if open_ended:
                prefix = index_key[: index_key.rindex(keys.SEPARATOR) + 1]
                asked = open_ended.get(prefix)
                if asked is not None:
                    found.setdefault(asked, {})[key] = None

        for document in self._identified_documents(resource_type, list(exact), list(open_ended)):
            key = ResourceKey(resource_type, document["k"])
            if key not in self._latest:
                for index_key in document["x"]:
                    if index_key.startswith(_IDENTIFIER):
                        note(key, index_key)
        for index_key in self._put_keys(resource_type, exact, open_ended):
            for put in self._identified[resource_type, index_key]:
                if self._latest[put.version.key][-1] is put:
                    note(put.version.key, index_key)
        return {asked: tuple(sorted(matches)) for asked, matches in found.items()}

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        found = self._changed_behind(after, tuple(resource_types))
        behind = [
            put.version
            for resource_type in dict.fromkeys(resource_types)
            for put in self._of_type.get(resource_type, ())
            if put.version.sequence > after
        ]
        return self.sequence, (*found, *sorted(behind, key=attrgetter("sequence")))

    def _changed_behind(self, after: int, types: tuple[str, ...]) -> tuple[Version, ...]:
        """What was committed; every decision of the group asks, and it is the same for all."""
        if after >= self._committed or self._own.has_none(after, self._committed, types):
            return ()
        known = self._changed.get(types)
        if known is None or after < known[0]:
            found = self._run(reads.changes(after, self._committed, types))
            known = self._changed[types] = (after, found)
        return tuple(version for version in known[1] if version.sequence > after)

    def put(self, version: Version, resource: Resource | Filled | None) -> None:
        if version.last_updated != self._now:
            raise ValueError(f"{version.key}: last_updated is not the transaction's now")
        if (resource is None) != version.is_deletion:
            raise ValueError(f"{version.key}: a version has a resource unless it is a deletion")
        self.place(version, resource)

    def place(self, version: Version, resource: Resource | Filled | None) -> None:
        """`put` for a version that keeps the time it has."""
        predecessor = self._check_succession(version)
        document = self._rows.to_document(version, resource)
        sequence = self.sequence + 1
        document["_id"] = sequence
        if sequence % MILESTONE == 0:
            document["m"] = document["u"]
        put = _Put(version._replace(sequence=sequence), document, predecessor)
        self._puts.append(put)
        self.bytes += len(version.body or b"")
        self._latest.setdefault(version.key, []).append(put)
        self._of_type.setdefault(version.key.resource_type, []).append(put)
        for index_key in document["x"]:
            if index_key.startswith(_IDENTIFIER):
                self._identified.setdefault((version.key.resource_type, index_key), []).append(put)

    def record(self, entries: Sequence[TrailEntry]) -> None:
        self.records += entries
        self.bytes += sum(len(entry.text) for entry in entries)

    def begin(self) -> None:
        """A decision starts here."""
        self._begun = len(self._puts)
        self._recorded = len(self.records)

    def drop(self) -> bool:
        """Forget what the decision put; False when some of it is already written."""
        if self._written > self._begun:
            return False
        for put in reversed(self._puts[self._begun :]):
            key = put.version.key
            self._latest[key].pop()
            self._of_type[key.resource_type].pop()
            if not self._latest[key]:
                del self._latest[key]
            for index_key in put.document["x"]:
                if index_key.startswith(_IDENTIFIER):
                    self._identified[key.resource_type, index_key].pop()
        del self._puts[self._begun :]
        del self.records[self._recorded :]
        return True

    def write(self) -> None:
        """Write what was put and is not written yet, all at once."""
        self._catch_up()
        waiting = self._puts[self._written :]
        self._written = len(self._puts)
        self._write(waiting)

    def write_ahead(self, writer: Executor) -> None:
        """Begin to write what finished decisions have put, while the next one runs.

        `writer` has one thread. From here on only a search could undo what is written, so
        a decision that fails still takes nothing of the others with it.
        """
        waiting = self._puts[self._written :]
        if len(waiting) < _WORTH_WRITING or (self._ahead and not self._ahead.done()):
            return
        self._catch_up()
        self._written = len(self._puts)
        self._ahead = writer.submit(self._write, waiting)

    def stand_still(self) -> None:
        """Wait for what is being written, whatever becomes of it: the session is in use."""
        if self._ahead is not None:
            wait([self._ahead])

    def _catch_up(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.result()

    def _write(self, waiting: Sequence[_Put]) -> None:
        if not waiting:
            return
        first = waiting[0].version.sequence
        superseding: list[UpdateOne] = []
        for put in waiting:
            change = {"s": put.version.sequence, "e": True}
            if put.predecessor >= first:
                waiting[put.predecessor - first].document.update(change)
            elif put.predecessor:
                superseding.append(UpdateOne({"_id": put.predecessor}, {"$set": change}))
        versions = self._database["versions"]
        if superseding:
            versions.bulk_write(superseding, ordered=False, session=self._session)
        versions.insert_many([put.document for put in waiting], session=self._session)

    def _check_succession(self, version: Version) -> int:
        """The sequence of the version before `version`; 0 for a first one."""
        if version.version_id == 1 and not self._is_sharded:
            # Not looked up: the unique index knows, and most versions are first ones.
            if self._latest.get(version.key) or self._read.get(version.key):
                raise VersionConflict(f"{version.key} exists already")
            return 0
        current = self.read(version.key)
        if version.version_id == 1:
            # Over several shards no index is unique but by the owner, which may differ.
            if current is not None:
                raise VersionConflict(f"{version.key} exists already")
            return 0
        if current is None or current.version_id != version.version_id - 1:
            raise VersionConflict(f"{version.key} has another current version")
        return current.sequence

    def _identified_documents(
        self, resource_type: str, exact: Sequence[str], open_ended: Sequence[str]
    ) -> list[Document]:
        found: list[Document] = []
        for start in range(0, len(exact), _AT_ONCE):
            wanted: Any = {"$in": exact[start : start + _AT_ONCE]}
            found += self._run(reads.with_key(resource_type, wanted))
        for start in range(0, len(open_ended), _PREFIXES_AT_ONCE):
            wanted = keys.starting_with_any(open_ended[start : start + _PREFIXES_AT_ONCE])
            if wanted is not None:
                found += self._run(reads.with_key(resource_type, wanted))
                continue
            for prefix in open_ended[start : start + _PREFIXES_AT_ONCE]:
                bounds = {"$elemMatch": keys.starting_with(prefix)}
                found += self._run(reads.with_key(resource_type, bounds))
        return found

    def _put_keys(
        self, resource_type: str, exact: Iterable[str], open_ended: Sequence[str] | dict[str, Any]
    ) -> set[str]:
        """The identifiers among what was put that are asked for."""
        found = {key for key in exact if (resource_type, key) in self._identified}
        if open_ended:
            found.update(
                key
                for put_type, key in self._identified
                if put_type == resource_type and key[: key.rindex(keys.SEPARATOR) + 1] in open_ended
            )
        return found

    def _run(self, steps: Steps[T]) -> T:
        try:
            self._catch_up()
            return blocking.run(steps, self._database, self._indexes, self._session)
        except PyMongoError as error:
            # Noted, for a decision might catch it: the transaction is over either way.
            self.failure = error
            raise
