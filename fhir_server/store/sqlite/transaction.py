"""What decisions see and what they put, for one transaction of the file.

Puts are gathered and written in bulk; reads look through them, so most decisions never
wait for a write.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.outline import OutlinedEntries
from fhir_server.core.search.query import Query
from fhir_server.core.security.audit_chain import NO_KEYS, ChainKeys
from fhir_server.core.version import Version
from fhir_server.errors import VersionConflict
from fhir_server.store.protocol import Page
from fhir_server.store.sqlite import trail_rows, versions
from fhir_server.store.sqlite.definitions import Definitions
from fhir_server.store.sqlite.flush import Put, write
from fhir_server.store.sqlite.identifiers import find_current
from fhir_server.store.sqlite.names import Cache, Interner, Names
from fhir_server.store.trail import TrailEntry

Identifier = tuple[str | None, str]
Indexer = Callable[[Resource | Filled], IndexEntries]
Search = Callable[[sqlite3.Connection, Query, Names], Page]


_new = tuple.__new__


class Shared(NamedTuple):
    """What every transaction of a store works with."""

    definitions: Definitions
    search: Search
    names: Cache
    trail_keys: ChainKeys = NO_KEYS


class GroupSpoiled(Exception):
    """What was accepted before cannot be written, so each decision has to run alone."""


class Overlay:
    """Puts, and how they change what a reader of the file would see."""

    def __init__(self) -> None:
        self.waiting: list[Put] = []
        self.types: set[str] = set()
        self.current: dict[ResourceKey, Version] = {}
        self._identifiers: dict[tuple[str, str], list[tuple[str, Version]]] = {}

    def add(self, put: Put) -> None:
        version = put.version
        self.waiting.append(put)
        self.types.add(version.key.resource_type)
        self.current[version.key] = version
        entries = put.entries
        tokens = entries.tokens
        if isinstance(entries, OutlinedEntries):
            tokens = (*entries.outline.identifiers, *entries.own.tokens)
        for entry in tokens:
            if entry[3] and entry.parameter == "identifier":
                self._identifiers.setdefault((version.key.resource_type, entry.code), []).append(
                    (entry.system, version)
                )

    def take(self, other: "Overlay") -> None:
        """Add all of `other`, which came after."""
        self.waiting += other.waiting
        self.types |= other.types
        self.current.update(other.current)
        for name, found in other._identifiers.items():
            self._identifiers.setdefault(name, []).extend(found)

    def written(self) -> list[Put]:
        """What waits, which the caller writes now. `current` stays known."""
        puts, self.waiting = self.waiting, []
        self.types.clear()
        self._identifiers.clear()
        return puts

    def having(self, resource_type: str, value: str) -> Sequence[tuple[str, Version]]:
        """Versions that wait and have an identifier of this value, with its system."""
        return self._identifiers.get((resource_type, value), ())


class Group:
    """One transaction of the file and the puts of the decisions it has accepted."""

    def __init__(self, connection: sqlite3.Connection, shared: Shared, clock: datetime) -> None:
        self.connection = connection
        self.shared = shared
        self.names = Interner(connection, shared.names)
        self.sequence, newest = versions.newest(connection)
        self.before = self.sequence
        self.begun = time.monotonic()
        self.generation = versions.meta(connection, "generation")
        self.now = versions.instant(max(versions.milliseconds(clock), newest))
        self.overlay = Overlay()
        self._changed: dict[tuple[str, ...], tuple[int, tuple[Version, ...]]] = {}
        self.records: list[TrailEntry] = []
        self.has_writes = False
        self.spoiled_by: Exception | None = None

    @property
    def indexer(self) -> Indexer:
        """What its generation is indexed by."""
        return self.shared.definitions.of(self.connection, self.generation).indexer

    def flush(self) -> None:
        """Write what was accepted.

        Raises:
            VersionConflict: a put does not follow the version that is stored.
        """
        self.write(self.overlay.written())
        if self.records:
            self.has_writes = True
            at = versions.milliseconds(self.now)
            trail_rows.append(self.connection, self.records, at, self.shared.trail_keys)
            self.records = []

    def write(self, puts: Sequence[Put]) -> None:
        if puts:
            self.note_writing()
            write(self.connection, self.names, self.generation, puts)

    def changes(self, after: int, types: tuple[str, ...]) -> tuple[Version, ...]:
        """What is written; every decision asks, and until a write it is the same for all."""
        known = self._changed.get(types)
        if known is None or after < known[0]:
            found = versions.changes(self.connection, after, -1, types)
            known = self._changed[types] = (after, found)
        return tuple(version for version in known[1] if version.sequence > after)

    def note_writing(self) -> None:
        """Something is written, so what was read may not be so any more."""
        self.has_writes = True
        self._changed.clear()

    def forget(self) -> None:
        """Some of what was written was undone."""
        self.names.forget()
        self._changed.clear()


class SqliteTransaction:
    """One decision's view of its group."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._connection = group.connection
        self._sequence = group.sequence
        self._overlay = Overlay()
        self._records: list[TrailEntry] = []
        self._has_savepoint = False

    @property
    def now(self) -> datetime:
        return self._group.now

    def read(self, key: ResourceKey) -> Version | None:
        found = self._put_before(key)
        return versions.read(self._connection, key) if found is None else found

    def read_many(self, keys: Sequence[ResourceKey]) -> dict[ResourceKey, Version]:
        put = {key: version for key in keys if (version := self._put_before(key)) is not None}
        stored = [key for key in keys if key not in put]
        found = put | versions.read_many(self._connection, stored) if stored else put
        return {key: version for key, version in found.items() if not version.is_deletion}

    def search(self, query: Query) -> Page:
        self._flush()
        # By the group's own names: what is not committed may yet get another number.
        return self._group.shared.search(self._connection, query, self._group.names)

    def find(
        self, resource_type: str, identifiers: Iterable[Identifier]
    ) -> dict[Identifier, tuple[ResourceKey, ...]]:
        wanted = tuple(dict.fromkeys(identifiers))
        found: dict[Identifier, set[ResourceKey]] = {}
        for identifier, key in find_current(
            self._connection, self._group.names, self._group.generation, resource_type, wanted
        ):
            # A version that waits to be written says itself what its identifiers are.
            if not self._is_waiting(key):
                found.setdefault(identifier, set()).add(key)
        for identifier in wanted:
            system, value = identifier
            for overlay in (self._group.overlay, self._overlay):
                for its_system, version in overlay.having(resource_type, value):
                    if system in (None, its_system) and self._put_before(version.key) is version:
                        found.setdefault(identifier, set()).add(version.key)
        return {identifier: tuple(sorted(keys)) for identifier, keys in found.items()}

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        if after >= self._sequence:
            return self._sequence, ()
        found = self._group.changes(after, tuple(resource_types))
        for overlay in (self._group.overlay, self._overlay):
            if not overlay.types.isdisjoint(resource_types):
                found += tuple(
                    put.version
                    for put in overlay.waiting
                    if put.version.sequence > after
                    and put.version.key.resource_type in resource_types
                )
        return self._sequence, found

    def put(self, version: Version, resource: Resource | Filled | None) -> None:
        """Raises ValueError for what no correct caller does: another time, a missing body."""
        if version.last_updated != self.now:
            raise ValueError(f"{version.key}: last_updated is not the transaction's now")
        if (resource is None) != version.is_deletion:
            raise ValueError(f"{version.key}: a version has a resource unless it is a deletion")
        before = self._put_before(version.key)
        if before is not None and version.version_id != before.version_id + 1:
            raise VersionConflict(f"{version.key} is at version {before.version_id} already")
        entries = IndexEntries() if resource is None else self._group.indexer(resource)
        self._sequence += 1
        self._overlay.add(Put(_new(Version, (*version[:-1], self._sequence)), entries))

    def record(self, entries: Sequence[TrailEntry]) -> None:
        self._records += entries

    def finish(self) -> None:
        """The decision has succeeded: hand its puts over.

        Raises:
            VersionConflict: a put does not follow the version that is stored.
        """
        if self._has_savepoint:
            self._group.write(self._overlay.written())
            self._connection.execute("RELEASE decision")
        self._group.overlay.take(self._overlay)
        self._group.records += self._records
        self._group.sequence = self._sequence

    def abandon(self) -> None:
        """The decision has failed: leave nothing of it."""
        if self._has_savepoint:
            self._connection.execute("ROLLBACK TO decision")
            self._connection.execute("RELEASE decision")
            self._group.forget()

    def _put_before(self, key: ResourceKey) -> Version | None:
        return self._overlay.current.get(key) or self._group.overlay.current.get(key)

    def _is_waiting(self, key: ResourceKey) -> bool:
        version = self._put_before(key)
        waiting = self._group.overlay.waiting or self._overlay.waiting
        return (
            version is not None
            and bool(waiting)
            and version.sequence >= waiting[0].version.sequence
        )

    def _flush(self) -> None:
        """Write all that waits, so that SQL sees it; this decision's part can be undone."""
        if self._group.overlay.waiting:
            try:
                self._group.flush()
            except Exception as error:
                self._group.spoiled_by = error
                raise GroupSpoiled from error
        if self._overlay.waiting:
            if not self._has_savepoint:
                self._connection.execute("SAVEPOINT decision")
                self._has_savepoint = True
            self._group.write(self._overlay.written())
