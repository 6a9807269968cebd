"""Verifying and pruning the audit trail: what the command line does with the chain."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.security import audit_record, audit_sheet
from fhir_server.core.security.audit_chain import (
    GENESIS,
    ChainedText,
    ChainKeys,
    ChainLink,
    check_chain,
    format_link,
    parse_link,
    told_key,
)
from fhir_server.core.security.audit_record import Asker, AuditRecord
from fhir_server.store.trail import Trail, TrailEntry, TrailQuery

_AT_ONCE = 1_000
_PRUNING = "audit-prune"
_TURNING = "audit-rotate"
_MOST_FAULTS = 200


class Verified(NamedTuple):
    """How many sheets were looked at, the newest of them, and what is wrong."""

    records: int
    newest: ChainLink
    faults: tuple[str, ...]


async def verify(
    trail: Trail,
    expected: ChainLink | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Follow the chain from what was pruned to the newest sheet, while servers append.

    `expected` is a link that was written down elsewhere: all before it is what it was then.
    """
    pruned, newest, key_id = await trail.ends()
    faults: list[str] = []
    segments = _Segments(trail.keys, key_id, pruned)
    after, count, told_pruned = pruned, 0, GENESIS
    seen_expected = expected is None or expected in (GENESIS, pruned)
    async for page in _pages(trail, newest):
        if len(faults) < _MOST_FAULTS:
            faults += segments.check(page)
        for record in page:
            told_pruned = _pruned_by(record) or told_pruned
        if expected is not None:
            links = (ChainLink(record.sequence, record.digest) for record in page)
            seen_expected = seen_expected or expected in links
        after = ChainLink(page[-1].sequence, page[-1].digest)
        count += len(page)
        report(count)
    faults += segments.ended()
    if after != newest:
        faults.append(f"the chain ends at record {after.sequence}, it should at {newest.sequence}")
    if told_pruned != pruned:
        faults.append(f"records up to {pruned.sequence} are gone, and no pruning tells of it")
    if not seen_expected and expected is not None:
        faults.append(f"record {expected.sequence} is not the one that is expected, or is gone")
    return Verified(count, after, tuple(faults[:_MOST_FAULTS]))


async def check_key(trail: Trail) -> None:
    """Look whether the chain goes on with the key that it was made with.

    Raises:
        ValueError: it does not. What was appended could not be verified any more.
    """
    pruned, newest, key_id = await trail.ends()
    key = trail.keys.find(key_id)
    if key is None:
        raise ValueError(f"the audit trail goes on with {told_key(key_id)}, which is not given")
    record = await trail.find(newest.sequence)
    before = await trail.find(newest.sequence - 1)
    if record is None:
        return
    after = pruned if before is None else ChainLink(before.sequence, before.digest)
    if list(check_chain([record], after, key)):
        raise ValueError(
            "the newest record of the audit trail does not fit: FHIR_SERVER_AUDIT_KEY is another, "
            "or the trail was changed; fhir-server audit verify tells"
        )


async def rotate(trail: Trail, key_id: str, asker: Asker) -> None:
    """Go on with the key of that id: in every process, from the next sheet on.

    Raises:
        ValueError: it is not given, is the one in use, or the one in use is another's.
    """
    current = (await trail.ends()).key
    if key_id == current:
        raise ValueError(f"the audit trail goes on with {told_key(key_id)} already")
    if trail.keys.find(key_id) is None:
        raise ValueError(f"{told_key(key_id)} is not given")
    await check_key(trail)
    turned = f"audit rotate {current or '-'} {key_id or '-'}"
    record = AuditRecord(_TURNING, "U", asker=asker, request=turned)
    await trail.turn_key(key_id, [TrailEntry(audit_record.format(record))])


async def prune(trail: Trail, before: datetime, asker: Asker) -> int:
    """Let go of sheets from before `before`; how many. The pruning is a record itself.

    Raises:
        VersionConflict: somebody else prunes at the same time.
    """
    up_to = await trail.newest_before(before)
    pruned = (await trail.ends()).pruned
    if up_to is None or up_to.sequence <= pruned.sequence:
        return 0
    record = AuditRecord(_PRUNING, "D", asker=asker, request=f"audit prune {format_link(up_to)}")
    await trail.prune(up_to, [TrailEntry(audit_record.format(record))])
    return up_to.sequence - pruned.sequence


async def _pages(trail: Trail, newest: ChainLink) -> AsyncIterator[tuple[ChainedText, ...]]:
    beyond = None
    while True:
        page = await trail.search(TrailQuery(beyond=beyond, is_oldest_first=True, limit=_AT_ONCE))
        page = tuple(record for record in page if record.sequence <= newest.sequence)
        if not page:
            return
        yield page
        beyond = page[-1].sequence


class _Segments:
    """A chain whose keys change: each sheet against the key that it was made with.

    Which key that is, the last sheet of the key before says, under that key. What stands
    before the first such sheet is of the key that fits any of it.
    """

    def __init__(self, keys: ChainKeys, current: str, after: ChainLink) -> None:
        self._keys = keys
        self._current = current
        self._after = after
        self._key: bytes | None = None
        self._name = ""
        self._unknown_since: int | None = None
        self._is_begun = False

    def check(self, page: Sequence[ChainedText]) -> Iterator[str]:
        """Faults of the sheets that follow those before."""
        if not self._is_begun:
            self._is_begun = True
            self._begin(page)
        start = 0
        for place, record in enumerate(page):
            turned = _turned_by(record)
            if turned is None:
                continue
            # Twice: under the key before, which has to say so, and under the new one.
            if self._key is None:
                if turned[1] == self._name:
                    continue
            elif not self._fits(page[:place], record, self._key):
                continue
            yield from self._checked(page[start : place + 1], turned[0])
            start = place + 1
            self._key, self._name = self._keys.find(turned[1]), turned[1]
        yield from self._checked(page[start:], self._name)

    def ended(self) -> Iterator[str]:
        """What could not be looked at to the end, and a key that nobody has turned to."""
        if self._unknown_since is not None:
            told = told_key(self._name) if self._name else "a key"
            yield f"records from {self._unknown_since}: made with {told}, which is not given"
        elif self._is_begun and self._name != self._current:
            yield f"the trail goes on with {told_key(self._current)}, and no record tells of it"

    def _checked(self, records: Sequence[ChainedText], name: str) -> Iterator[str]:
        if not records:
            return
        if self._key is not None:
            yield from check_chain(records, self._after, self._key)
        elif self._unknown_since is None:
            self._unknown_since = records[0].sequence
        last = records[-1]
        self._after = ChainLink(last.sequence, last.digest)
        if self._key is None and _turned_by(last) is not None:
            yield (
                f"records {self._unknown_since} to {last.sequence}: made with "
                f"{told_key(name)}, which is not given"
            )
            self._unknown_since = None

    def _fits(self, before: Sequence[ChainedText], record: ChainedText, key: bytes) -> bool:
        last = before[-1] if before else None
        after = self._after if last is None else ChainLink(last.sequence, last.digest)
        return not list(check_chain([record], after, key))

    def _begin(self, page: Sequence[ChainedText]) -> None:
        turned = (place for place, record in enumerate(page) if _turned_by(record) is not None)
        first = page[: next(turned, len(page)) + 1]
        # The one in use first: two ids may have one key.
        keys = sorted(self._keys, key=lambda each: each[0] != self._current)
        for name, key in keys:
            if any(self._fits(first[:place], record, key) for place, record in enumerate(first)):
                self._name, self._key = name, key
                return


def _turned_by(sheet: ChainedText) -> tuple[str, str] | None:
    """The ids of the keys before and behind a change of keys; None: it is of something else."""
    found = _last_of(sheet, _TURNING)
    if found is None:
        return None
    before, _, behind = found.request.removeprefix("audit rotate ").partition(" ")
    return "" if before == "-" else before, "" if behind == "-" else behind


def _pruned_by(sheet: ChainedText) -> ChainLink | None:
    """What a sheet says was pruned; None: it is of something else."""
    found = _last_of(sheet, _PRUNING)
    try:
        return None if found is None else parse_link(found.request.rpartition(" ")[2])
    except ValueError:
        return None


def _last_of(sheet: ChainedText, interaction: str) -> AuditRecord | None:
    """The last record of that interaction on a sheet; None: all are of others."""
    if interaction.encode() not in sheet.text:
        return None
    try:
        records = audit_sheet.parse(sheet.text)
    except ValueError:
        # Not what was written: the chain has told it already.
        return None
    return next((each for each in reversed(records) if each.interaction == interaction), None)
