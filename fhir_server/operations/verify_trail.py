"""Verifying and pruning the audit trail: what the command line does with the chain."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.security import audit_record, audit_sheet
from fhir_server.core.security.audit_chain import (
    GENESIS,
    ChainedText,
    ChainLink,
    check_chain,
    format_link,
    parse_link,
)
from fhir_server.core.security.audit_record import Asker, AuditRecord
from fhir_server.store.trail import Trail, TrailEntry, TrailQuery

_AT_ONCE = 1_000
_PRUNING = "audit-prune"
_MOST_FAULTS = 200


class Verified(NamedTuple):
    """How many records were looked at, the newest of them, and what is wrong."""

    records: int
    newest: ChainLink
    faults: tuple[str, ...]


async def verify(
    trail: Trail,
    expected: ChainLink | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Follow the chain from what was pruned to the newest record, while servers append.

    `expected` is a link that was written down elsewhere: all before it is what it was then.
    """
    pruned, newest = await trail.ends()
    faults: list[str] = []
    after, count, told_pruned = pruned, 0, GENESIS
    seen_expected = expected is None or expected in (GENESIS, pruned)
    async for page in _pages(trail, newest):
        if len(faults) < _MOST_FAULTS:
            faults += check_chain(page, after, trail.key)
        for record in page:
            told_pruned = _pruned_by(record) or told_pruned
        if expected is not None:
            links = (ChainLink(record.sequence, record.digest) for record in page)
            seen_expected = seen_expected or expected in links
        after = ChainLink(page[-1].sequence, page[-1].digest)
        count += len(page)
        report(count)
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
    pruned, newest = await trail.ends()
    record = await trail.find(newest.sequence)
    before = await trail.find(newest.sequence - 1)
    if record is None:
        return
    after = pruned if before is None else ChainLink(before.sequence, before.digest)
    if list(check_chain([record], after, trail.key)):
        raise ValueError(
            "the newest record of the audit trail does not fit: FHIR_SERVER_AUDIT_KEY is another, "
            "or the trail was changed; fhir-server audit verify tells"
        )


async def prune(trail: Trail, before: datetime, asker: Asker) -> int:
    """Let go of records from before `before`; how many. The pruning is a record itself.

    Raises:
        VersionConflict: somebody else prunes at the same time.
    """
    up_to = await trail.newest_before(before)
    pruned, _ = await trail.ends()
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


def _pruned_by(sheet: ChainedText) -> ChainLink | None:
    """What a sheet says was pruned; None: it is of something else."""
    if _PRUNING.encode() not in sheet.text:
        return None
    try:
        told = [each for each in audit_sheet.parse(sheet.text) if each.interaction == _PRUNING]
        return parse_link(told[-1].request.rpartition(" ")[2]) if told else None
    except ValueError:
        # Not what was written: the chain has told it already.
        return None
