"""Names as integers: types, parameters, codes, units and identities, each kept once.

What is committed never changes, so every thread of a process shares one cache of it.
What a transaction adds is its own until the commit: an id that was rolled back may be
given to another name.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import Any

from fhir_server.core.identity import ResourceKey
from fhir_server.store.sqlite.layout import NO_DISPLAY, chunks, insert_rows, values_rows

_TYPE, _PARAMETER, _URI, _CODE, _DISPLAY, _UNIT, _RESOURCE, _TYPE_NAME, _TEXT = range(9)

_SELECT = {
    _TYPE: "SELECT id FROM type WHERE name = ?",
    _PARAMETER: "SELECT id FROM parameter WHERE generation = ? AND type = ? AND code = ?",
    _URI: "SELECT id FROM uri WHERE uri = ?",
    _CODE: "SELECT id FROM code WHERE system = ? AND code = ?",
    _DISPLAY: "SELECT id FROM display WHERE code = ? AND folded = ?",
    _UNIT: "SELECT id FROM unit WHERE system = ? AND code = ? AND unit = ? AND canonical = ?",
    _RESOURCE: "SELECT key FROM resource WHERE type = ? AND id = ?",
    _TYPE_NAME: "SELECT name FROM type WHERE id = ?",
    _TEXT: "SELECT id FROM text WHERE digest = ?",
}

_INSERT = {
    _TYPE: "INSERT INTO type (name) VALUES (?)",
    _PARAMETER: "INSERT INTO parameter (generation, type, code) VALUES (?, ?, ?)",
    _URI: "INSERT INTO uri (uri) VALUES (?)",
    _CODE: "INSERT INTO code (system, code) VALUES (?, ?)",
    _DISPLAY: "INSERT INTO display (code, folded) VALUES (?, ?)",
    _UNIT: "INSERT INTO unit (system, code, unit, canonical) VALUES (?, ?, ?, ?)",
    _RESOURCE: "INSERT INTO resource (type, id) VALUES (?, ?)",
    _TEXT: "INSERT INTO text (digest) VALUES (?)",
}


# Texts of more are not cached: they would fill the memory, and do not repeat.
_FEW_WORDS = 64


class Cache:
    """A bounded cache that any thread may use; what was not asked for lately goes."""

    def __init__(self, size: int = 200_000) -> None:
        self._size = size // 2
        self._young: dict[Hashable, Any] = {}
        self._old: dict[Hashable, Any] = {}

    def get(self, name: Hashable) -> Any:
        found = self._young.get(name)
        if found is None:
            found = self._old.get(name)
            if found is not None:
                self.put(name, found)
        return found

    def put(self, name: Hashable, value: Any) -> None:
        # Two threads may rotate at once: an entry is lost then, and looked up again.
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[name] = value


class Names:
    """Looks names up. A name that is not there has no id: None."""

    def __init__(self, connection: sqlite3.Connection, committed: Cache) -> None:
        self._connection = connection
        self._committed = committed

    def type(self, name: str) -> int | None:
        return self._find((_TYPE, name))

    def type_name(self, type_id: int) -> str:
        name: str | None = self._lookup((_TYPE_NAME, type_id))
        if name is None:
            raise LookupError(f"no type has the id {type_id}")
        return name

    def parameter(self, generation: int, type_id: int, code: str) -> int | None:
        return self._find((_PARAMETER, generation, type_id, code))

    def uri(self, uri: str) -> int | None:
        return self._find((_URI, uri))

    def code(self, system: str, code: str) -> int | None:
        uri = self.uri(system)
        return None if uri is None else self._find((_CODE, uri, code))

    def unit(self, system: str, code: str, unit: str, canonical: str) -> int | None:
        return self._find((_UNIT, system, code, unit, canonical))

    def resource(self, key: ResourceKey) -> int | None:
        type_id = self.type(key.resource_type)
        return None if type_id is None else self.resource_of(type_id, key.resource_id)

    def resource_of(self, type_id: int, resource_id: str) -> int | None:
        return self._find((_RESOURCE, type_id, resource_id))

    def resources(self, wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """The keys of identities given as (type, id), those that are known."""
        found: dict[tuple[int, str], int] = {}
        unknown: list[tuple[int, str]] = []
        for identity in wanted:
            key = self._cached((_RESOURCE, *identity))
            if key is None:
                unknown.append(identity)
            else:
                found[identity] = key
        for part in chunks(unknown):
            rows = self._connection.execute(
                f"WITH wanted (type, id) AS ({values_rows(len(part), 2)}) "
                "SELECT r.type, r.id, r.key FROM wanted "
                "CROSS JOIN resource r ON r.type = wanted.type AND r.id = wanted.id",
                [value for identity in part for value in identity],
            ).fetchall()
            for type_id, resource_id, key in rows:
                found[type_id, resource_id] = key
                self._keep((_RESOURCE, type_id, resource_id), key)
        return found

    def _find(self, name: tuple[Any, ...]) -> int | None:
        found: int | None = self._lookup(name)
        return found

    def _lookup(self, name: tuple[Any, ...]) -> Any:
        found = self._cached(name)
        if found is None:
            row = self._connection.execute(_SELECT[name[0]], name[1:]).fetchone()
            if row is not None:
                found = row[0]
                self._keep(name, found)
        return found

    def _cached(self, name: Hashable) -> Any:
        return self._committed.get(name)

    def _keep(self, name: Hashable, value: Any) -> None:
        self._committed.put(name, value)


class Interner(Names):
    """Gives new names an id. For the one transaction it was made for."""

    def __init__(self, connection: sqlite3.Connection, committed: Cache) -> None:
        super().__init__(connection, committed)
        self._staged: dict[Hashable, Any] = {}
        self._passing: dict[Hashable, int] = {}

    def commit(self) -> None:
        """The transaction is durable: share what it found and added."""
        for name, value in self._staged.items():
            self._committed.put(name, value)
        self.forget()

    def forget(self) -> None:
        """Some of the transaction was rolled back; the rest is found again."""
        self._staged.clear()
        self._passing.clear()

    def intern_type(self, name: str) -> int:
        return self._intern((_TYPE, name))

    def intern_parameter(self, generation: int, type_id: int, code: str) -> int:
        return self._intern((_PARAMETER, generation, type_id, code))

    def intern_uri(self, uri: str) -> int:
        return self._intern((_URI, uri))

    def intern_code(self, system: str, code: str) -> int:
        return self._intern((_CODE, self.intern_uri(system), code))

    def intern_display(self, code: int, folded: str) -> int:
        return self._intern((_DISPLAY, code, folded)) if folded else NO_DISPLAY

    def intern_unit(self, system: str, code: str, unit: str, canonical: str) -> int:
        return self._intern((_UNIT, system, code, unit, canonical))

    def intern_text(self, words: tuple[str, ...]) -> int:
        name = (_TEXT, words)
        found: int | None = self._cached(name)
        if found is None:
            digest = blake2b("\n".join(words).encode(), digest_size=16).digest()
            found = self._find((_TEXT, digest))
            if found is None:
                found = self._intern((_TEXT, digest))
                rows = [value for word in words for value in (word, found)]
                insert_rows(self._connection, "word", rows)
            if len(words) <= _FEW_WORDS:
                self._keep(name, found)
        return found

    def intern_resource(self, type_id: int, resource_id: str) -> int:
        return self._intern((_RESOURCE, type_id, resource_id))

    def know_resource(self, identity: tuple[int, str], key: int) -> None:
        """The key of an identity that was put: for this transaction, not worth caching."""
        self._passing[(_RESOURCE, *identity)] = key

    def recall(self, name: Hashable) -> Any:
        """What `remember` was told under this name, in this or a committed transaction."""
        return self._cached(name)

    def remember(self, name: Hashable, value: Any) -> None:
        """Keep something that was derived from ids as long as the ids themselves."""
        self._staged[name] = value

    def _intern(self, name: tuple[Any, ...]) -> int:
        found = self._find(name)
        if found is None:
            cursor = self._connection.execute(_INSERT[name[0]], name[1:])
            found = cursor.lastrowid
            assert found is not None
            self._staged[name] = found
        return found

    def _cached(self, name: Hashable) -> Any:
        found = self._staged.get(name)
        if found is None:
            found = self._passing.get(name)
        return self._committed.get(name) if found is None else found

    def _keep(self, name: Hashable, value: Any) -> None:
        # Found within the transaction: perhaps what it added itself, so not shared yet.
        self._staged[name] = value
