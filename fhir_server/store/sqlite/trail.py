"""The audit trail in the SQLite file: found, searched, pruned."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fhir_server.core.security import audit_sheet
from fhir_server.core.security.audit_chain import ChainedText, ChainKeys, ChainLink
from fhir_server.errors import VersionConflict
from fhir_server.store.sqlite.committer import Committer, statement, upkeep
from fhir_server.store.sqlite.reader import Readers
from fhir_server.store.sqlite.trail_rows import append, current_key, end, turn_key
from fhir_server.store.sqlite.transaction import Group
from fhir_server.store.sqlite.versions import milliseconds
from fhir_server.store.trail import TrailEnds, TrailEntry, TrailQuery

_AT_ONCE = 2_000
_COLUMNS = "t.seq, t.at, t.text, t.digest"


class SqliteTrail:
    """The trail of one file."""

    def __init__(self, readers: Readers, committer: Committer, keys: ChainKeys) -> None:
        self._readers = readers
        self._committer = committer
        self.keys = keys

    async def find(self, sequence: int) -> ChainedText | None:
        return self._readers.point(lambda c: _find(c, sequence))

    async def search(self, query: TrailQuery) -> tuple[ChainedText, ...]:
        return await self._readers.run(lambda c: _search(c, query))

    async def ends(self) -> TrailEnds:
        return self._readers.point(lambda c: _ends(c))

    async def turn_key(self, key_id: str, entries: Sequence[TrailEntry]) -> None:
        def turn(group: Group) -> None:
            at = milliseconds(group.now)
            append(group.connection, entries, at, self.keys)
            turn_key(group.connection, key_id)
            append(group.connection, entries, at, self.keys)

        await self._committer.commit(upkeep(turn))

    async def newest_before(self, when: datetime) -> ChainLink | None:
        def look(connection: sqlite3.Connection) -> ChainLink | None:
            row = connection.execute(
                "SELECT seq, digest FROM trail WHERE at < ? ORDER BY at DESC, seq DESC LIMIT 1",
                (milliseconds(when),),
            ).fetchone()
            return None if row is None else ChainLink(*row)

        return self._readers.point(look)

    async def prune(self, up_to: ChainLink, entries: Sequence[TrailEntry]) -> None:
        def tell(group: Group) -> None:
            append(group.connection, entries, milliseconds(group.now), self.keys)
            _mark_pruned(group.connection, up_to)

        await self._committer.commit(upkeep(tell))
        has_more = True
        while has_more:
            has_more = await self._committer.commit(statement(_erase))


def _ends(connection: sqlite3.Connection) -> TrailEnds:
    newest = end(connection, "newest")
    return TrailEnds(end(connection, "pruned"), newest, current_key(connection))


def _find(connection: sqlite3.Connection, sequence: int) -> ChainedText | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM trail t WHERE t.seq = ? AND t.seq > "  # noqa: S608
        "coalesce((SELECT seq FROM trail_end WHERE name = 'pruned'), 0)",
        (sequence,),
    ).fetchone()
    return None if row is None else ChainedText(*row)


def _search(connection: sqlite3.Connection, query: TrailQuery) -> tuple[ChainedText, ...]:
    if query.patient is None:
        return _select(connection, query, "trail t", "t.seq", [], [])
    parts = (_listed, _waiting) if query.is_oldest_first else (_waiting, _listed)
    found: tuple[ChainedText, ...] = ()
    for part in parts:
        if len(found) < query.limit:
            found += part(connection, query._replace(limit=query.limit - len(found)))
    return found


def _listed(connection: sqlite3.Connection, query: TrailQuery) -> tuple[ChainedText, ...]:
    source = "trail_patient p CROSS JOIN trail t ON t.seq = p.seq"
    return _select(connection, query, source, "p.seq", ["p.patient = ?"], [query.patient])


def _waiting(connection: sqlite3.Connection, query: TrailQuery) -> tuple[ChainedText, ...]:
    """Of the sheets that are on no list yet, those that hold the patient's name."""
    mark = audit_sheet.mark_of(query.patient or "")
    listed = end(connection, "listed").sequence
    conditions = ["t.seq > ?", "instr(t.text, ?) > 0"]
    return _select(connection, query, "trail t", "t.seq", conditions, [listed, mark])


def _select(
    connection: sqlite3.Connection,
    query: TrailQuery,
    source: str,
    place: str,
    conditions: list[str],
    values: list[Any],
) -> tuple[ChainedText, ...]:
    way, beyond = ("ASC", ">") if query.is_oldest_first else ("DESC", "<")
    is_by_time = query.patient is None and not (query.start is None and query.end is None)
    order = f"t.at {way}, t.seq {way}" if is_by_time else f"{place} {way}"
    conditions.append("t.seq > ?")
    values.append(end(connection, "pruned").sequence)
    for condition, value in (
        ("t.at >= ?", query.start),
        ("t.at <= ?", query.end),
        (f"{place} {beyond} ?", query.beyond),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {source} WHERE {' AND '.join(conditions)} "  # noqa: S608
        f"ORDER BY {order} LIMIT ?",
        (*values, query.limit),
    )
    return tuple(ChainedText(*row) for row in rows.fetchall())


def _mark_pruned(connection: sqlite3.Connection, up_to: ChainLink) -> None:
    found = _find(connection, up_to.sequence)
    if found is None or found.digest != up_to.digest:
        raise VersionConflict("the sheet to prune up to is not there any more")
    connection.execute(
        "UPDATE trail_end SET seq = ?, at = ?, digest = ? WHERE name = 'pruned'",
        (up_to.sequence, found.at, up_to.digest),
    )


def _erase(connection: sqlite3.Connection) -> bool:
    """Remove some sheets that are pruned; whether there may be more."""
    pruned = end(connection, "pruned").sequence
    gone = connection.execute(
        "SELECT seq, text FROM trail WHERE seq <= ? ORDER BY seq LIMIT ?", (pruned, _AT_ONCE)
    ).fetchall()
    if not gone:
        return False
    places = [(patient, seq) for seq, text in gone for patient in audit_sheet.patients_of(text)]
    connection.executemany("DELETE FROM trail_patient WHERE patient = ? AND seq = ?", places)
    connection.execute("DELETE FROM trail WHERE seq <= ?", (gone[-1][0],))
    return True
