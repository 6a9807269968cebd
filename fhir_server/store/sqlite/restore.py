"""Restoring: versions of another store, as they are, behind those that are there."""

import sqlite3
from collections.abc import Sequence

from fhir_server.core.archive import Restored
from fhir_server.core.search.entry import IndexEntries
from fhir_server.errors import VersionConflict
from fhir_server.store.protocol import Extent
from fhir_server.store.sqlite import ledger, versions
from fhir_server.store.sqlite.flush import Put
from fhir_server.store.sqlite.transaction import Group, Indexer


def extent(connection: sqlite3.Connection) -> Extent:
    # The outbox first: it is never ahead of the commit order.
    positions = ledger.positions(connection)
    position = min((at for kind, at in positions.items() if kind), default=positions[""])
    return Extent(versions.newest(connection)[0], position)


def restore(group: Group, indexer: Indexer, restored: Sequence[Restored], delivered: int) -> None:
    """Write versions as they are, as one piece of work of `group`, which has been flushed.

    Raises:
        VersionConflict: they do not follow what is stored.
    """
    connection = group.connection
    newest, updated = versions.newest(connection)
    _check_order(restored, newest, updated)
    group.write(
        [
            Put(version, IndexEntries() if resource is None else indexer(resource))
            for version, resource in restored
        ]
    )
    last = restored[-1].version
    for kind, position in ledger.positions(connection).items():
        if position == newest:
            ledger.move(connection, kind, max(newest, min(delivered, last.sequence)))
    # What others put in this group comes behind, also in time.
    group.sequence = last.sequence
    group.now = max(group.now, last.last_updated)
    group.overlay.current.update((version.key, version) for version, _ in restored)


def _check_order(restored: Sequence[Restored], newest: int, updated: int) -> None:
    for version, _ in restored:
        moment = versions.milliseconds(version.last_updated)
        if version.sequence != newest + 1:
            raise VersionConflict(
                f"{version.sequence} of the commit order does not follow {newest}"
            )
        if moment < updated:
            raise VersionConflict(f"{version.sequence} of the commit order is older than {newest}")
        newest, updated = version.sequence, moment
