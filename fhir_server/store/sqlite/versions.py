"""Versions as rows: read, vread, history, changes. Plain functions of a connection."""

# ruff: noqa: S608 - put together from constants; every value is bound

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Interaction, Version
from fhir_server.store import page_ends
from fhir_server.store.protocol import HistoryQuery, Page
from fhir_server.store.sqlite.layout import chunks, values_rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
INTERACTIONS: tuple[Interaction, ...] = ("create", "update", "delete", "update-create")

COLUMNS = "t.name, r.id, v.version_id, v.updated, v.interaction, b.text, v.seq"
_JOINS = (
    "CROSS JOIN resource r ON r.key = v.resource CROSS JOIN type t ON t.id = r.type "
    "LEFT JOIN body b ON b.seq = v.seq"
)

# Of one type, that is known: what a page reads along with its places.
OWN_COLUMNS = "r.id, v.version_id, v.updated, v.interaction, b.text"
OWN_JOINS = "CROSS JOIN resource r ON r.key = v.resource CROSS JOIN body b ON b.seq = v.seq"

_READ = f"""SELECT {COLUMNS} FROM type t
CROSS JOIN resource r ON r.type = t.id AND r.id = ?2
CROSS JOIN version v ON v.resource = r.key
LEFT JOIN body b ON b.seq = v.seq
WHERE t.name = ?1 %s ORDER BY v.version_id DESC LIMIT 1"""
_READ_CURRENT = _READ % ""
_READ_VERSION = _READ % "AND v.version_id = ?3"

# All versions, with what superseded each behind the columns.
SELECT_ALL = f"SELECT {COLUMNS}, v.superseded FROM version v {_JOINS}"

_LOADED_AT_ONCE = 512

_new = tuple.__new__


def milliseconds(when: datetime) -> int:
    """`when` since 1970, rounded down."""
    return (when - _EPOCH) // _MILLISECOND


def _rounded_up(when: datetime) -> int:
    return -((_EPOCH - when) // _MILLISECOND)


@lru_cache(maxsize=4_096)
def instant(since_1970: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=since_1970)


def from_row(row: Sequence[Any]) -> Version:
    """The version that a row of `COLUMNS` holds."""
    resource_type, resource_id, version_id, updated, interaction, body, seq = row
    return Version(
        ResourceKey(resource_type, resource_id),
        version_id,
        instant(updated),
        INTERACTIONS[interaction],
        body,
        seq,
    )


def from_place(resource_type: str, row: Sequence[Any]) -> Version:
    """The version that a row holds of its sort value, its sequence, and `OWN_COLUMNS`."""
    _, seq, resource_id, version_id, updated, interaction, body = row
    # As `from_row` makes it, without the calls: a page has many.
    return _new(
        Version,
        (
            _new(ResourceKey, (resource_type, resource_id)),
            version_id,
            instant(updated),
            INTERACTIONS[interaction],
            body,
            seq,
        ),
    )


def read(connection: sqlite3.Connection, key: ResourceKey) -> Version | None:
    row = connection.execute(_READ_CURRENT, key).fetchone()
    return None if row is None else from_row(row)


def vread(connection: sqlite3.Connection, key: ResourceKey, version_id: int) -> Version | None:
    row = connection.execute(_READ_VERSION, (*key, version_id)).fetchone()
    return None if row is None else from_row(row)


def read_many(
    connection: sqlite3.Connection, keys: Iterable[ResourceKey]
) -> dict[ResourceKey, Version]:
    """The current versions of many, deletions among them, in one step for many keys."""
    found: dict[ResourceKey, Version] = {}
    for part in chunks(list(dict.fromkeys(keys))):
        rows = connection.execute(
            f"WITH wanted (type, id) AS ({values_rows(len(part), 2)}) "
            f"SELECT {COLUMNS} FROM wanted "
            "CROSS JOIN type t ON t.name = wanted.type "
            "CROSS JOIN resource r ON r.type = t.id AND r.id = wanted.id "
            "CROSS JOIN version v ON v.resource = r.key "
            "AND v.version_id = (SELECT max(n.version_id) FROM version n WHERE n.resource = r.key) "
            "LEFT JOIN body b ON b.seq = v.seq",
            [value for key in part for value in key],
        )
        for row in rows.fetchall():
            version = from_row(row)
            found[version.key] = version
    return found


def load(connection: sqlite3.Connection, sequences: Sequence[int]) -> tuple[Version, ...]:
    """Versions by their sequence, in the order given."""
    found: dict[int, Version] = {}
    for first in range(0, len(sequences), _LOADED_AT_ONCE):
        part = sequences[first : first + _LOADED_AT_ONCE]
        # Filled up with what no version has, so that few statements have to stay prepared.
        size = 1 << (len(part) - 1).bit_length()
        rows = connection.execute(_load(size), (*part, *(0,) * (size - len(part))))
        found.update((row[6], from_row(row)) for row in rows.fetchall())
    return tuple(found[sequence] for sequence in sequences if sequence in found)


@cache
def _load(count: int) -> str:
    return (
        f"WITH wanted (seq) AS ({values_rows(count, 1)}) SELECT {COLUMNS} FROM wanted "
        f"CROSS JOIN version v ON v.seq = wanted.seq {_JOINS}"
    )


def times(connection: sqlite3.Connection, sequences: Sequence[int]) -> dict[int, int]:
    """When versions were stored, in milliseconds since 1970, by their sequence."""
    return dict(
        connection.execute(
            "SELECT v.seq, v.updated FROM json_each(?) j CROSS JOIN version v ON v.seq = j.value",
            (json.dumps(sequences),),
        ).fetchall()
    )


def newest(connection: sqlite3.Connection) -> tuple[int, int]:
    """The newest version's sequence and time; zeros in an empty store."""
    row = connection.execute("SELECT seq, updated FROM version ORDER BY seq DESC LIMIT 1")
    return row.fetchone() or (0, 0)


def meta(connection: sqlite3.Connection, name: str) -> int:
    """A value that all processes share; 0 where it was never set."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def set_meta(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def first_since(connection: sqlite3.Connection, since_1970: int, until: int) -> int:
    """The lowest sequence up to `until` whose time is not before; `until` + 1 if there is none.

    `updated` never falls as the sequence grows, so halving finds it without an index.
    """
    return first_where(
        until,
        lambda seq: connection.execute(
            "SELECT updated >= ? FROM version WHERE seq = ?", (since_1970, seq)
        ).fetchone()[0],
    )


def first_where(until: int, holds: Callable[[int], bool]) -> int:
    """The first of 1 … `until` where `holds` begins to be true; `until` + 1 if nowhere."""
    low, high = 1, until + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def history(connection: sqlite3.Connection, query: HistoryQuery) -> Page:
    """One page of versions."""
    as_of = newest(connection)[0]
    if query.as_of is not None:
        as_of = min(query.as_of, as_of)
    scope, values = "", {"as_of": as_of, "since": 1}
    if query.resource_type is not None:
        type_id = connection.execute(
            "SELECT id FROM type WHERE name = ?", (query.resource_type,)
        ).fetchone()
        if type_id is None:
            return Page((), as_of, total=0)
        scope, values["type"] = "AND v.type = :type", type_id[0]
        if query.resource_id is not None:
            resource = connection.execute(
                "SELECT key FROM resource WHERE type = ? AND id = ?",
                (type_id[0], query.resource_id),
            ).fetchone()
            if resource is None:
                return Page((), as_of, total=0)
            scope, values["resource"] = "AND v.resource = :resource", resource[0]
    if query.since is not None:
        values["since"] = first_since(connection, _rounded_up(query.since), as_of)
    if query.at is not None:
        # What was current then: there before its end, and not yet replaced when it began.
        values["ended"] = first_since(connection, -(-query.at.end // 1_000), as_of)
        values["begun"] = first_since(connection, query.at.start // 1_000 + 1, as_of)
        scope += (
            " AND v.seq < :ended AND NOT EXISTS (SELECT 1 FROM version n WHERE "
            "n.resource = v.resource AND n.version_id = v.version_id + 1 AND n.seq < :begun)"
        )
    direction, beyond = "DESC", "v.seq < :start"
    values["start"] = as_of + 1 if query.before is None else query.before
    if query.is_upward:
        direction, beyond = "ASC", "v.seq > :start"
        values["start"] = query.after or 0
    values["count"] = query.count + 1
    where = f"WHERE v.seq >= :since AND v.seq <= :as_of {scope}"
    order = "v.version_id" if query.resource_id is not None else "v.seq"
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM version v {_JOINS} {where} "
        f"AND {beyond} ORDER BY {order} {direction} LIMIT :count",
        values,
    ).fetchall()
    total = connection.execute(
        f"SELECT count(*) FROM version v {where}",
        values,
    ).fetchone()[0]
    found = tuple(map(from_row, rows[: query.count]))
    ends = page_ends.find_in_history(query, found, is_more=len(rows) > query.count)
    found = found if query.is_upward == query.is_oldest_first else found[::-1]
    return Page(found, as_of, ends.next, total, ends.previous)


def changes(
    connection: sqlite3.Connection, after: int, limit: int, resource_types: Sequence[str] = ()
) -> tuple[Version, ...]:
    """Versions behind `after`, oldest first, of these types if any are given; `limit` -1 is all."""
    index = scope = ""
    if resource_types:
        index = "INDEXED BY version_by_type"
        scope = (
            "v.type IN (SELECT id FROM type WHERE name IN "
            f"({','.join('?' * len(resource_types))})) AND "
        )
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM version v {index} {_JOINS} "
        f"WHERE {scope} v.seq > ? ORDER BY v.seq LIMIT ?",
        (*resource_types, after, limit),
    ).fetchall()
    return tuple(map(from_row, rows))
