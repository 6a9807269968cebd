"""Restoring: versions of another store, as they are, behind those that are there."""

from collections.abc import Sequence

from pymongo.errors import OperationFailure
from pymongo.synchronous.client_session import ClientSession

from fhir_server.core.archive import Restored
from fhir_server.errors import VersionConflict
from fhir_server.store.mongo import positions
from fhir_server.store.mongo.definitions import Definitions
from fhir_server.store.mongo.documents import Connection
from fhir_server.store.mongo.failures import is_duplicate
from fhir_server.store.mongo.rows import to_milliseconds
from fhir_server.store.mongo.steps import Find, Steps
from fhir_server.store.mongo.transaction import MongoTransaction
from fhir_server.store.mongo.transactor import Transactor, take_turn
from fhir_server.store.protocol import Extent

_PATIENCE = 30.0


def extent() -> Steps[Extent]:
    # The outbox first: it is never ahead of the commit order.
    found = yield Find(positions.ALL, collection="state")
    commits = yield Find({"_id": "commits"}, limit=1, collection="state")
    places = {each["_id"]: each["position"] for each in found}
    begin = places.pop(positions.BEGIN)
    return Extent(commits[0]["sequence"], min(places.values(), default=begin))


def restore(
    connection: Connection,
    transactor: Transactor,
    definitions: Definitions,
    restored: Sequence[Restored],
    delivered: int,
) -> None:
    """Write versions as they are, in one transaction.

    Raises:
        VersionConflict: they do not follow what is stored.
    """
    definitions.keep_texts(connection.database)
    try:
        transactor.run(
            lambda session: _restore(session, connection, definitions, restored, delivered),
            _PATIENCE,
        )
    except OperationFailure as error:
        if is_duplicate(error):
            raise VersionConflict("a version is there already") from error
        raise


def _restore(
    session: ClientSession,
    connection: Connection,
    definitions: Definitions,
    restored: Sequence[Restored],
    delivered: int,
) -> None:
    database = connection.database
    state = database["state"]
    commits = take_turn(state, "commits", session)
    newest, updated = commits["sequence"], commits["updated"]
    _check_order(restored, newest, updated)
    rows = definitions.rows_for(commits, database, session)
    tx = MongoTransaction(session, connection, rows, restored[0].version.last_updated, commits)
    for version, resource in restored:
        tx.place(version, resource)
    tx.write()
    last = restored[-1].version
    state.update_one(
        {"_id": "commits"},
        {"$set": {"sequence": last.sequence, "updated": to_milliseconds(last.last_updated)}},
        session=session,
    )
    state.update_many(
        {**positions.ALL, "position": newest},
        {"$set": {"position": max(newest, min(delivered, last.sequence))}},
        session=session,
    )


def _check_order(restored: Sequence[Restored], newest: int, updated: int) -> None:
    for version, _ in restored:
        moment = to_milliseconds(version.last_updated)
        if version.sequence != newest + 1:
            raise VersionConflict(
                f"{version.sequence} of the commit order does not follow {newest}"
            )
        if moment < updated:
            raise VersionConflict(f"{version.sequence} of the commit order is older than {newest}")
        newest, updated = version.sequence, moment
