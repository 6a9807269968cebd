"""Steps: what a read asks of the database, without saying how it is asked.

A read is written once, as a generator that yields what it wants to know and is sent the
documents. The request path answers it with the asynchronous client, a transaction and the
outbox with the blocking one.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pymongo.write_concern import WriteConcern

Document = dict[str, Any]
Filter = dict[str, Any]
DURABLE = WriteConcern(w="majority", j=True, wtimeout=10_000)
R = TypeVar("R")


class Find(NamedTuple):
    """Documents of one collection. `limit` 0 is all."""

    filter: Filter
    projection: Mapping[str, Any] | None = None
    sort: Sequence[tuple[str, int]] = ()
    limit: int = 0
    hint: str | None = None
    collection: str = "versions"


class Aggregate(NamedTuple):
    """Documents of a pipeline over one collection.

    All of it sees one moment where `is_of_one_moment`; else a long one may see several.
    """

    pipeline: Sequence[Mapping[str, Any]]
    hint: str | None = None
    collection: str = "versions"
    is_of_one_moment: bool = False


Step = Find | Aggregate
Steps = Generator[Step, list[Document], R]
