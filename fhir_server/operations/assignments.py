"""The assignment book of a process, in step with the commit order.

Decisions that place readings ask here instead of searching the store for each. What
they are told must be as true as a search: a correction committed just before is seen,
and a write that was rolled back never was.

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

from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from itertools import islice
from typing import NamedTuple, TypeVar

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring.assignment import (
    Assignment,
    PatientRecord,
    Plan,
    local_key,
    parse_assignment,
    parse_device,
    parse_identifiers,
    parse_plan,
)
from fhir_server.core.monitoring.assignment_book import WATCHED, AssignmentBook
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Clause, Query, ReferenceValue
from fhir_server.core.version import Version
from fhir_server.store.protocol import Transaction

T = TypeVar("T")

# Entries, about a kilobyte each; beyond, the book starts anew.
_MOST_ENTRIES = 50_000
# Sequences behind which reading the changes costs more than starting anew.
_FAR_BEHIND = 20_000
_BEHIND_ALL = 2**62
_SEARCHED_AT_ONCE = 100


class View(NamedTuple):
    """What one decision places by; `sequence` is confirmed when it has succeeded."""

    book: AssignmentBook
    sequence: int


class Assignments:
    """One a process and store."""

    def __init__(self) -> None:
        self._book = AssignmentBook()
        self._sequence = 0
        self._confirmed = 0

    def view(self, tx: Transaction, look_up: "AssignmentLookUp") -> View:
        """The book as `tx` sees it, with all that `look_up` asks for. Only in a decision."""
        confirmed = self._confirmed
        newest, _ = tx.changes(_BEHIND_ALL, WATCHED)
        is_far_behind = newest - self._sequence > _FAR_BEHIND
        if is_far_behind or not 0 < len(self._book) <= _MOST_ENTRIES:
            # A book that knows nothing is true at every moment.
            self._book = AssignmentBook()
            self._sequence = min(confirmed, newest)
        if not confirmed or newest - self._sequence > _FAR_BEHIND:
            book = AssignmentBook()
        else:
            book = self._keep_up(tx, confirmed, newest)
        look_up.fill(book, tx)
        return View(book, newest)

    def confirm(self, sequence: int) -> None:
        """A decision whose view was as of `sequence` is committed."""
        self._confirmed = max(self._confirmed, sequence)

    def _keep_up(self, tx: Transaction, confirmed: int, newest: int) -> AssignmentBook:
        _, changed = tx.changes(self._sequence, WATCHED)
        unconfirmed = [v for v in changed if not 0 < v.sequence <= confirmed]
        if len(unconfirmed) < len(changed):
            self._book.forget(v for v in changed if 0 < v.sequence <= confirmed)
        self._sequence = max(self._sequence, min(confirmed, newest))
        if not unconfirmed:
            return self._book
        book = self._book.copy()
        book.forget(unconfirmed)
        return book


class AssignmentLookUp:
    """Looks up in bulk what a book has still to learn about some device tokens."""

    def __init__(
        self, tokens: Sequence[IdentifierToken], parameters: SearchParameters, zone: tzinfo
    ) -> None:
        self._tokens = tokens
        self._parameters = parameters
        self._zone = zone

    def fill(self, book: AssignmentBook, tx: Transaction) -> None:
        """Afterwards `book` knows every device that is named, its assignments and patients."""
        if tokens := book.unknown_tokens(self._tokens):
            found = tx.find("Device", tokens)
            for token in tokens:
                book.learn_token(token, found.get(token, ()))
        if devices := book.unknown_devices(self._tokens):
            self._fill_devices(book, tx, devices)
        if patients := book.unknown_patients(self._tokens):
            self._fill_patients(book, tx, patients)

    def _fill_devices(
        self, book: AssignmentBook, tx: Transaction, keys: Sequence[ResourceKey]
    ) -> None:
        held: dict[ResourceKey, list[Assignment]] = {key: [] for key in keys}
        for statement in self._referring(tx, "DeviceUseStatement", "device", keys):
            parsed = parse_assignment(statement.key, statement.resource(), self._zone)
            if parsed is not None and parsed[0] in held:
                held[parsed[0]].append(parsed[1])
        for key in keys:
            version = tx.read(key)
            record = None
            if version is not None and not version.is_deletion:
                record = parse_device(key, version.resource())
            if record is not None:
                record = record._replace(assignments=tuple(held[key]))
            book.learn_device(key, record)

    def _fill_patients(
        self, book: AssignmentBook, tx: Transaction, keys: Sequence[ResourceKey]
    ) -> None:
        plans: dict[ResourceKey, list[Plan]] = {key: [] for key in keys}
        for care_plan in self._referring(tx, "CarePlan", "subject", keys):
            resource = care_plan.resource()
            plan = parse_plan(care_plan.key, resource, self._zone)
            subject = local_key(resource.get("subject"), "Patient")
            if plan is not None and subject in plans:
                plans[subject].append(plan)
        for key in keys:
            version = tx.read(key)
            record = None
            if version is not None and not version.is_deletion:
                identifiers = parse_identifiers(version.resource())
                record = PatientRecord(key, identifiers, tuple(plans[key]))
            book.learn_patient(key, record)

    def _referring(
        self, tx: Transaction, resource_type: str, code: str, keys: Sequence[ResourceKey]
    ) -> Iterator[Version]:
        """Every current resource of a type that refers to one of `keys` by `code`."""
        parameter = self._parameters.get(resource_type, code)
        if parameter is None:
            raise LookupError(f"no search parameter {resource_type}.{code}")
        for some in _in_portions(keys, _SEARCHED_AT_ONCE):
            values = tuple(ReferenceValue(*key) for key in some)
            query = Query(resource_type, (Clause(parameter, "", values),), count=1_000)
            while True:
                page = tx.search(query)
                yield from page.versions
                if page.next is None:
                    break
                query = query._replace(after=page.next, as_of=page.as_of)


def _in_portions(values: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    remaining = iter(values)
    while portion := tuple(islice(remaining, size)):
        yield portion
