"""The account: every reading of a ledger against what the server has and what it said."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from fhir_server.core.mapping.reading import Verdict
from fhir_server.simulation.expectation import Expected
from fhir_server.simulation.ledger import Entry

_HELD = (Verdict.QUARANTINED, Verdict.CONFLICT)


class Stored(NamedTuple):
    """An Observation: its codes, when it was measured, and alerts by code that point to it."""

    reference: str
    codes: frozenset[str]
    instant: datetime
    alerts: Counter[str]


class Account(NamedTuple):
    """Readings by verdict, and by fault what the sender was told otherwise."""

    verdicts: Counter[str]
    told_otherwise: Counter[str]
    accepted: dict[str, list[Expected]]
    held: Counter[str]


class Balance(NamedTuple):
    """What a patient's Observations say: how many are where they should be, and what is not."""

    found: int
    missing: int
    doubled: int
    unexpected: int
    alerts_found: int
    alerts_wrong: int

    @property
    def is_even(self) -> bool:
        return not (self.missing or self.doubled or self.unexpected or self.alerts_wrong)


def account(entries: Iterable[Entry]) -> Account:
    """What a ledger says must be there."""
    verdicts: Counter[str] = Counter()
    otherwise: Counter[str] = Counter()
    accepted: dict[str, list[Expected]] = defaultdict(list)
    waiting: dict[tuple[str, int], str] = {}
    for entry in entries:
        wanted = Counter((str(each.verdict), each.reason) for each in entry.expected)
        if entry.said is not None and Counter(entry.said) != wanted:
            otherwise[entry.fault or "none"] += 1
        for place, expected in enumerate(entry.expected):
            verdicts[str(expected.verdict)] += 1
            if expected.verdict is Verdict.ACCEPTED and expected.patient:
                accepted[expected.patient].append(expected)
            elif expected.verdict in _HELD:
                # The same payload held back twice waits once.
                waiting[entry.digest, place] = expected.reason
    return Account(verdicts, otherwise, dict(accepted), Counter(waiting.values()))


def balance(expected: Iterable[Expected], stored: Iterable[Stored], *, alerts: bool) -> Balance:
    """One patient's. An Observation of a code that the ledger does not speak of is left out."""
    by_place: dict[tuple[str, datetime], list[Stored]] = defaultdict(list)
    wanted = list(expected)
    codes = {each.code for each in wanted}
    unexpected = 0
    places = {(each.code, each.instant.astimezone(UTC)) for each in wanted if each.instant}
    for one in stored:
        for code in one.codes & codes:
            if (code, one.instant) in places:
                by_place[code, one.instant].append(one)
            else:
                unexpected += 1
    found = missing = doubled = alerts_found = alerts_wrong = 0
    watched = {each.alert for each in wanted if each.alert}
    unclaimed: dict[str, int] = {}
    if alerts:
        for one in (one for some in by_place.values() for one in some):
            unclaimed[one.reference] = sum(one.alerts[code] for code in watched)
    for each in wanted:
        assert each.instant is not None
        there = by_place[each.code, each.instant.astimezone(UTC)]
        found += len(there) == 1
        missing += not there
        doubled += len(there) > 1
        if alerts and each.alert:
            raised = sum(one.alerts[each.alert] for one in there)
            alerts_found += raised == 1
            alerts_wrong += raised != 1
            for one in there:
                unclaimed.pop(one.reference, None)
    # An alert of a reading that was no deviation.
    alerts_wrong += sum(unclaimed.values())
    return Balance(found, missing, doubled, unexpected, alerts_found, alerts_wrong)
