"""What a process keeps of the terminology that is stored, as long as none of it changes.

Before each use the store is asked whether a CodeSystem, ValueSet or ConceptMap was written
since: one look-up in the commit order. If one was, all that was kept is let go, so what any
process stores counts everywhere at once.
"""

from threading import Lock

from fhir_server.core.terminology.terminology import Terminology
from fhir_server.store.protocol import Outbox

RESOURCE_TYPES = ("CodeSystem", "ValueSet", "ConceptMap")

_BEHIND_ALL = 2**62
# A concept takes some hundred bytes, so some hundred megabytes at most.
_MOST_CONCEPTS = 1_000_000
_MOST_DEFINITIONS = 1_000


class DefinitionShelf:
    """One a process and store. Safe from any thread."""

    def __init__(self, outbox: Outbox, shipped: Terminology) -> None:
        self._outbox = outbox
        self._shipped = shipped
        self._kept = shipped
        self._lock = Lock()
        self._sequence: int | None = None
        self._changes = 0

    def current(self) -> tuple[Terminology, int]:
        """What is known, and how many changes it has seen. It may wait for the store.

        Raises:
            StoreUnavailable: the store cannot be asked.
        """
        with self._lock:
            after = _BEHIND_ALL if self._sequence is None else self._sequence
            newest, changed = self._outbox.changes(after, RESOURCE_TYPES)
            self._sequence = max(newest, self._sequence or 0)
            if changed:
                self._changes += 1
                self._kept = self._shipped
            return self._kept, self._changes

    def keep(self, terminology: Terminology, changes: int) -> None:
        """Keep what was looked up, unless something changed since `changes`."""
        is_small = (
            terminology.concepts <= _MOST_CONCEPTS and terminology.looked_up <= _MOST_DEFINITIONS
        )
        with self._lock:
            if changes == self._changes:
                self._kept = terminology if is_small else self._shipped
