"""A book that a process keeps of some resources, in step with the commit order.

Decisions ask the book instead of searching the store for each reading. What they are told
must be as true as a search: a correction committed just before is seen, and a write that
was rolled back never was.

How that holds. The shared book is filled and trimmed only from committed state:

- `sequence` is how far in the commit order it is true, `confirmed` how far the order is
  known to be committed: a decision that succeeded proves all that it saw.
- At the start of a decision the store says what was written behind `sequence`. Up to
  `confirmed` it is forgotten from the shared book for good. Beyond, it may be another
  decision of the same group commit, or of another process, and may still be rolled
  back: then this decision works on a copy that is thrown away with it.
- While nothing watched is unconfirmed, what a decision looks up is committed state, so
  it may be kept even if the decision itself fails or runs again.

So a failed commit needs no clearing: nothing of it was ever kept. The store runs the
decisions of a process one at a time, and only they touch the book; the event loop does
no more than raise `confirmed`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, Protocol, TypeVar

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Clause, Query, ReferenceValue
from fhir_server.core.version import Version
from fhir_server.store.protocol import Transaction

# Entries, about a kilobyte each; beyond, those go that were not asked for the longest.
_MOST_ENTRIES = 50_000
# A quarter goes at once: finding the oldest is a walk through the book.
_KEPT_OF_FOUR = 3
# Sequences behind which reading the changes costs more than starting anew.
_FAR_BEHIND = 20_000
_BEHIND_ALL = 2**62
_SEARCHED_AT_ONCE = 100


class Book(Protocol):
    """What is known; it can forget what a change made untrue."""

    def __len__(self) -> int: ...

    def copy(self: "B") -> "B": ...

    def forget(self, changed: Iterable[Version]) -> None: ...

    def trim(self, most: int) -> None:
        """Keep about `most` entries, those that were asked for last."""
        ...


B = TypeVar("B", bound=Book)
T = TypeVar("T")


class FollowedBook(Generic[B]):
    """One a process and store, for the resource types that it watches."""

    def __init__(self, make: Callable[[], B], watched: Sequence[str]) -> None:
        self._make = make
        self._watched = watched
        self._book = make()
        self._sequence = 0
        self._confirmed = 0

    def view(self, tx: Transaction) -> tuple[B, int]:
        """The book as `tx` sees it, and the sequence to confirm when the decision succeeded.

        Only in a decision.
        """
        confirmed = self._confirmed
        newest, _ = tx.changes(_BEHIND_ALL, self._watched)
        is_far_behind = newest - self._sequence > _FAR_BEHIND
        if is_far_behind or not len(self._book):
            # A book that knows nothing is true at every moment.
            self._book = self._make()
            self._sequence = min(confirmed, newest)
        elif len(self._book) > _MOST_ENTRIES:
            self._book.trim(_MOST_ENTRIES * _KEPT_OF_FOUR // 4)
        if not confirmed or newest - self._sequence > _FAR_BEHIND:
            return self._make(), newest
        return self._keep_up(tx, confirmed, newest), newest

    def confirm(self, sequence: int) -> None:
        """A decision whose view was as of `sequence` is committed."""
        self._confirmed = max(self._confirmed, sequence)

    def _keep_up(self, tx: Transaction, confirmed: int, newest: int) -> B:
        _, changed = tx.changes(self._sequence, self._watched)
        unconfirmed = [v for v in changed if not 0 < v.sequence <= confirmed]
        if len(unconfirmed) < len(changed):
            self._book.forget(v for v in changed if 0 < v.sequence <= confirmed)
        self._sequence = max(self._sequence, min(confirmed, newest))
        if not unconfirmed:
            return self._book
        book = self._book.copy()
        book.forget(unconfirmed)
        return book


def referring(
    tx: Transaction,
    parameters: SearchParameters,
    resource_type: str,
    code: str,
    keys: Iterable[ResourceKey],
) -> Iterator[Version]:
    """Every current resource of a type that refers to one of `keys` by the parameter `code`."""
    parameter = parameters.get(resource_type, code)
    if parameter is None:
        raise LookupError(f"no search parameter {resource_type}.{code}")
    for some in in_portions(keys, _SEARCHED_AT_ONCE):
        values = tuple(ReferenceValue(*key) for key in some)
        query = Query(resource_type, (Clause(parameter, "", values),), count=1_000)
        while True:
            page = tx.search(query)
            yield from page.versions
            if page.next is None:
                break
            query = query._replace(after=page.next, as_of=page.as_of)


def in_portions(values: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    remaining = iter(values)
    while portion := tuple(islice(remaining, size)):
        yield portion
