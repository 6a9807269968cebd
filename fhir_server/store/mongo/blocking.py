"""Answers the steps of a read with the blocking client."""

from typing import Any, TypeVar

from pymongo.read_concern import ReadConcern
from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.database import Database

from fhir_server.store.mongo.indexes import Indexes
from fhir_server.store.mongo.steps import Aggregate, Document, Find, Step, Steps

R = TypeVar("R")

ONE_MOMENT = ReadConcern("snapshot")

LONGEST_READ = 5_000
"""What one step may take, in milliseconds."""

# More than any pipeline here is to give: what does not fit into a message comes in several.
_ONE_BATCH = 10_000


def run(
    steps: Steps[R],
    database: Database[Document],
    indexes: Indexes,
    session: ClientSession | None = None,
) -> R:
    """The result of a read, in `session`'s transaction if there is one.

    Raises:
        PyMongoError: as the driver raises it.
    """
    try:
        step = next(steps)
        while True:
            step = steps.send(answer(step, database, indexes, session))
    except StopIteration as finished:
        result: R = finished.value
        return result


def answer(
    step: Step, database: Database[Document], indexes: Indexes, session: ClientSession | None
) -> list[Document]:
    """What one step is sent."""
    collection = database[step.collection]
    if isinstance(step, Find):
        return list(collection.find(**find_arguments(step, indexes), session=session))
    if step.is_of_one_moment and session is None:
        collection = collection.with_options(read_concern=ONE_MOMENT)
    return list(
        collection.aggregate(
            list(step.pipeline), **aggregate_arguments(step, indexes), session=session
        )
    )


def find_arguments(step: Find, indexes: Indexes) -> dict[str, Any]:
    """How pymongo is told of a `Find`; one batch, so one round trip, where a limit is."""
    arguments: dict[str, Any] = {"filter": step.filter, "max_time_ms": LONGEST_READ}
    if step.projection is not None:
        arguments["projection"] = step.projection
    if step.sort:
        arguments["sort"] = list(step.sort)
    if step.limit:
        arguments["limit"] = step.limit
        arguments["batch_size"] = step.limit + 1
    if step.hint and (hint := indexes.hint(step.collection, step.hint)):
        arguments["hint"] = hint
    return arguments


def aggregate_arguments(step: Aggregate, indexes: Indexes) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "maxTimeMS": LONGEST_READ,
        "allowDiskUse": False,
        "batchSize": _ONE_BATCH,
    }
    if step.hint and (hint := indexes.hint(step.collection, step.hint)):
        arguments["hint"] = hint
    return arguments
