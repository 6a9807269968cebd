"""Quarantine as a work list: what waits, and deciding it again once the cause is mended.

Decided again means: as if it came now, with what the gateway knew and when it came
then. Each Task is one decision; what still cannot be decided stays, with its reason.
"""

import hashlib
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.catalog import MappingCatalog
from fhir_server.core.mapping.reading import Verdict
from fhir_server.core.monitoring import quarantine
from fhir_server.core.monitoring.quarantine import (
    OPEN_STATUSES,
    REASON_SYSTEM,
    TASK_CODE,
    TASK_SYSTEM,
    HeldBack,
)
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Clause, Criterion, Cursor, Query, SortKey, TokenValue
from fhir_server.core.version import Version, next_version
from fhir_server.errors import InvalidResource, Issue, NotFound
from fhir_server.interactions.condition import parse_condition
from fhir_server.interactions.context import Context
from fhir_server.operations.assignments import Assignments
from fhir_server.operations.ingest_readings import (
    Decided,
    ReadingResult,
    decide_readings,
    read_payload,
)
from fhir_server.store.protocol import Page, Transaction


class Reprocessed(NamedTuple):
    """What became of one Task; `verdict` None: somebody else closed or changed it first."""

    task: ResourceKey
    verdict: Verdict | None
    resources: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""


class WorkPage(NamedTuple):
    """A page of the work list, oldest first; `after` and `as_of` lead to the next."""

    tasks: tuple[Version, ...]
    as_of: int
    after: Cursor | None


class Wanted(NamedTuple):
    """Which Tasks of the work list: of a reason, of a device ("value" or "system|value"),
    of payloads that came `before` a FHIR date; "" is any.
    """

    reason: str = ""
    device: str = ""
    before: str = ""


ALL = Wanted()


async def list_quarantine(
    ctx: Context,
    count: int,
    wanted: Wanted = ALL,
    after: Cursor | None = None,
    as_of: int | None = None,
) -> WorkPage:
    """The Tasks that wait, oldest first.

    Raises:
        InvalidSearch: `before` is no date.
    """
    criteria: list[Criterion] = [
        _token(ctx, "code", TASK_SYSTEM, TASK_CODE),
        _token(ctx, "status", None, *OPEN_STATUSES),
    ]
    if wanted.reason:
        criteria.append(_token(ctx, "business-status", REASON_SYSTEM, wanted.reason))
    if wanted.device:
        system, bar, value = wanted.device.rpartition("|")
        token = _token(ctx, "requester", system if bar else None, value)
        criteria.append(token._replace(modifier="identifier"))
    if wanted.before:
        authored = (("authored-on", f"lt{wanted.before}"),)
        criteria += parse_condition(ctx, "Task", authored).query.criteria
    last_updated = ctx.parameters.get("Task", "_lastUpdated")
    assert last_updated is not None
    page: Page = await ctx.store.search(
        Query(
            "Task",
            tuple(criteria),
            sort=(SortKey(last_updated, descending=False),),
            count=count,
            after=after,
            as_of=as_of,
            restriction=ctx.principal.restriction,
        )
    )
    return WorkPage(page.versions, page.as_of, page.next)


async def oldest_waiting(ctx: Context) -> datetime | None:
    """When the oldest payload came that still waits; None where nothing does."""
    criteria = (
        _token(ctx, "code", TASK_SYSTEM, TASK_CODE),
        _token(ctx, "status", None, *OPEN_STATUSES),
    )
    authored = ctx.parameters.get("Task", "authored-on")
    assert authored is not None
    page = await ctx.store.search(
        Query("Task", criteria, sort=(SortKey(authored, descending=False),), count=1)
    )
    for version in page.versions:
        text = version.resource().get("authoredOn")
        return datetime.fromisoformat(text) if text else None
    return None


async def find_task(ctx: Context, task_id: str) -> Version:
    """One quarantine Task.

    Raises:
        NotFound: there is none of that id.
    """
    key = ResourceKey("Task", task_id)
    version = await ctx.store.read(key)
    if (
        version is None
        or version.is_deletion
        or not quarantine.is_quarantined_reading(version.resource())
    ):
        raise NotFound(f"{key} is no quarantined reading")
    return version


async def reprocess(
    ctx: Context, assignments: Assignments, mappings: MappingCatalog, version: Version
) -> Reprocessed:
    """Decide the payload of one Task again.

    All readings of the payload are decided: a mended mapping may find others in it, and
    those that were stored the first time are duplicates.

    Raises:
        InvalidResource: the Task, or the payload it keeps, was altered.
        StoreUnavailable: nothing was changed.
    """
    task = version.resource()
    if not quarantine.is_open(task):
        return Reprocessed(version.key, None)
    if quarantine.is_of_stored_reading(task):
        # Placed again by what follows the assignments; there is no payload to decide.
        reason, detail = quarantine.reason_of(task)
        return Reprocessed(version.key, Verdict.QUARANTINED, reason=reason, detail=detail)
    held, raw = await _kept(ctx, version)
    mapping = mappings.get(held.mapping)
    payload = read_payload(mapping, 0, raw, held.gateway)

    def decide(tx: Transaction) -> tuple[Decided, Reprocessed] | None:
        current = tx.read(version.key)
        if current is None or current.version_id != version.version_id:
            return None
        decided = decide_readings(
            tx, ctx, assignments, held.mapping, mapping, (payload,), held.gateway
        )
        result = next((r for r in decided.results if r.reading == held.ordinal), None)
        if result is None:
            # The payload has fewer readings than it had: this one is no longer there.
            result = ReadingResult(0, held.ordinal, Verdict.IGNORED, reason="no-such-reading")
        if not result.quarantine:
            task = quarantine.completed(current.resource(), result.resources, tx.now)
            tx.put(*next_version(current, current.key, task, tx.now))
        outcome = Reprocessed(
            version.key, result.verdict, result.resources, result.reason, result.detail
        )
        return decided, outcome

    decided = await ctx.store.commit(decide)
    if decided is None:
        return Reprocessed(version.key, None)
    assignments.confirm(decided[0].sequence)
    return decided[1]


async def _kept(ctx: Context, version: Version) -> tuple[HeldBack, bytes]:
    task: Resource = version.resource()
    try:
        held = quarantine.parse_held_back(task)
    except ValueError as error:
        raise _altered(f"{version.key}: {error}", "Task.input") from None
    if isinstance(held.payload, bytes):
        return held, held.payload
    binary = await ctx.store.read(held.payload)
    if binary is None or binary.is_deletion:
        raise _altered(f"{held.payload} is gone", "Task.input.value")
    raw = quarantine.parse_payload_binary(binary.resource())
    if hashlib.sha256(raw).hexdigest() != held.payload.resource_id:
        raise _altered(f"{held.payload} is not what was received", "Task.input.value")
    return held, raw


def _altered(diagnostics: str, expression: str) -> InvalidResource:
    return InvalidResource(issues=(Issue("invariant", diagnostics, expression),))


def _token(ctx: Context, code: str, system: str | None, *values: str) -> Clause:
    parameter = ctx.parameters.get("Task", code)
    assert parameter is not None
    return Clause(parameter, "", tuple(TokenValue(system, v) for v in values))
