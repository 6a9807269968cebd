"""Who is insured by an insurer at all, so that nobody else's readings are even queued."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from adapters.insurer.policy import Party, is_payor
from fhir_server.core.resource_json import Resource
from fhir_server.core.whom import patient_of
from fhir_server.outbox.sink import Records

_KEPT = 100_000
_NEWEST = 2**62
_TYPES = ("Coverage", "Organization")
_MOST_COVERAGES = 100


class Insured:
    """Answers for one patient after the other, as of now; for one thread.

    A Coverage that has ended counts: what may go is decided when it is sent. What it knows
    of a patient it forgets when a Coverage of theirs changes.
    """

    def __init__(self, records: Records, find_party: Callable[[], Party]) -> None:
        self._records = records
        self._find_party = find_party
        self._position: int | None = None
        self._party = Party(frozenset(), frozenset())
        self._known: OrderedDict[str, bool] = OrderedDict()

    def party(self, sequence: int) -> Party:
        """The insurer, as known when the version `sequence` was committed or later."""
        self._catch_up(sequence)
        return self._party

    def is_insured(self, patient: str, sequence: int) -> bool:
        """Whether a Coverage of `patient` ("Patient/42") names the insurer."""
        self._catch_up(sequence)
        known = self._known.get(patient)
        if known is None:
            known = any(is_payor(each, self._party) for each in coverages(self._records, patient))
            self._known[patient] = known
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known

    def _catch_up(self, sequence: int) -> None:
        if self._position is None:
            # Before the party is read: what changes meanwhile is seen the next time.
            self._position, _ = self._records.newer(_NEWEST, _TYPES)
            self._party = self._find_party()
        if sequence <= self._position:
            return
        self._position, changed = self._records.newer(self._position, _TYPES)
        if any(version.key.resource_type == "Organization" for version in changed):
            self._party = self._find_party()
            self._known.clear()
            return
        for version in changed:
            if version.body is None:
                self._known.clear()
                return
            # One that was moved to another beneficiary is not the former's any more.
            before = (
                self._records.read(version.key, version.version_id - 1)
                if version.version_id > 1
                else None
            )
            self._forget(version.resource())
            if before is not None and before.body is not None:
                self._forget(before.resource())

    def _forget(self, coverage: Resource) -> None:
        self._known.pop(patient_of(coverage), None)


def coverages(records: Records, patient: str) -> Iterable[Resource]:
    """The patient's Coverages, whatever their state."""
    return records.search("Coverage", [("beneficiary", patient)], _MOST_COVERAGES)
