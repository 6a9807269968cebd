"""The steps of an export: the moment it is of, one file after the other, what was deleted.

Each page is read as the principal of the job may see it at that moment, is on record before
it is written (ADR 0030), and is followed by a rest as long as it took: requests go first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from time import monotonic
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from fhir_server.core import resource_json
from fhir_server.core.bulk.job import ExportFile, ExportJob, FileKind, Place
from fhir_server.core.identity import ResourceKey
from fhir_server.core.outcome import operation_outcome
from fhir_server.core.search.query import Cursor
from fhir_server.core.security import subscriber
from fhir_server.core.security.principal import ANONYMOUS
from fhir_server.core.version import Version
from fhir_server.errors import Forbidden, InvalidSearch, Issue, TooCostly
from fhir_server.interactions import access
from fhir_server.interactions.access import Access
from fhir_server.interactions.authorize import Authorizer
from fhir_server.interactions.context import Context
from fhir_server.operations import export_plan
from fhir_server.operations.audit_journal import AuditJournal
from fhir_server.operations.export_file import ExportWriter
from fhir_server.operations.export_lease import HeldJob
from fhir_server.operations.export_plan import ExportPlan
from fhir_server.operations.export_recheck import mark
from fhir_server.store import turns
from fhir_server.store.protocol import Extent, HistoryQuery, Page, Store

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST_PAGE = 10
_LONGEST_REST = 1.0

Work = Callable[[Context], Awaitable[Sequence[Version]]]


class Source(Store, Protocol):
    """The store itself, for positions in its commit order: nothing of it gets into a file."""

    async def extent(self) -> Extent: ...


class ExportLimits(NamedTuple):
    """A file ends with the page with which it has so many resources, or bytes before gzip."""

    page: int = 500
    resources: int = 100_000
    length: int = 256 * 1024 * 1024
    window: int = 1_000


class ExportSteps:
    """`find_context` gives the context of now: search parameters may be added meanwhile."""

    def __init__(
        self,
        source: Source,
        find_context: Callable[[], Context],
        authorizer: Authorizer,
        journal: AuditJournal | None,
        limits: ExportLimits = ExportLimits(),  # noqa: B008 - immutable
    ) -> None:
        self._source = source
        self._find_context = find_context
        self._authorizer = authorizer
        self._journal = journal
        self._limits = limits
        self._plans: dict[str, tuple[int | None, ExportPlan]] = {}

    async def begin(self, job: ExportJob) -> ExportJob:
        """The job, with the moment that all of it will belong to.

        Its time is that of the last change up to there: what comes behind is of no earlier
        time, whichever clock it is by, and so what is new since then misses nothing.
        """
        newest = (await self._source.extent()).newest
        moment = await self._time_of(newest) if newest else _FIRST
        return msgspec.structs.replace(job, as_of=newest, moment=moment, place=Place())

    async def write(self, held: HeldJob, place: Place) -> ExportJob:
        """The job with one file more, or none where nothing was found for it.

        Raises:
            LostError: it is somebody else's.
            Gone: its moment is kept no more.
            StoreUnavailable: it could not be written; from `place` on it can be again.
        """
        writer = _Writer(held)
        try:
            if place.phase == "deleted":
                following = await self._write_deleted(held, place, writer)
                kind, name = "deleted", "Bundle"
            else:
                following = await self._write_type(held, place, writer)
                kind, name = "output", held.job.types[place.type]
            job = held.job
            made = await writer.finish(kind, name)  # type: ignore[arg-type]
        except BaseException:
            await writer.drop()
            raise
        if made is None:
            return msgspec.structs.replace(job, place=following)
        count = made.count if kind == "output" else 0
        return msgspec.structs.replace(
            job, place=following, files=(*job.files, made), exported=job.exported + count
        )

    async def write_notes(self, held: HeldJob, notes: Sequence[tuple[str, str]]) -> ExportJob:
        """The job with a file of OperationOutcomes that say what is not in the others."""
        severity = {"informational": "information"}
        outcomes = [
            operation_outcome((Issue(code, why, severity=severity.get(code, "warning")),))  # type: ignore[arg-type]
            for code, why in notes
        ]
        writer = _Writer(held)
        await writer.write([resource_json.format(each) + b"\n" for each in outcomes])
        made = await writer.finish("error", "OperationOutcome")
        files = held.job.files if made is None else (*held.job.files, made)
        return msgspec.structs.replace(held.job, files=files)

    async def _write_type(self, held: HeldJob, place: Place, writer: "_Writer") -> Place | None:
        """What is left of a type, up to a file full; where the next file begins."""
        plan = await self._plan(held)
        count = self._limits.page
        found: Place | None = place
        while found is not None and found.phase == "output" and found.type == place.type:
            held.check()
            begun = monotonic()
            try:
                page = await self._page(held, plan, found, count, writer)
            except TooCostly as error:
                if count > _LEAST_PAGE:
                    count = max(_LEAST_PAGE, count // 4)
                    continue
                return self._skipped(held, plan, place, error)
            except (Forbidden, InvalidSearch) as error:
                # What a recipient's policy has not, or does not let be asked.
                return self._skipped(held, plan, place, error)
            here = found
            if page.versions:
                ctx = self._find_context()
                await writer.write(await asyncio.to_thread(plan.lines, ctx, here, page.versions))
            found = plan.behind(here) if page.next is None else _behind(here, page.next)
            if writer.count >= self._limits.resources or writer.length >= self._limits.length:
                break
            await _rest(begun)
        return found

    async def _page(
        self, held: HeldJob, plan: ExportPlan, place: Place, count: int, writer: "_Writer"
    ) -> Page:
        pages: list[Page] = []

        async def search(ctx: Context) -> Sequence[Version]:
            await writer.note(ctx)
            query = plan.query(ctx, place, count)
            page = Page((), 0) if query is None else await ctx.store.search(query)
            pages.append(page)
            return page.versions

        await self._read(held, search)
        return pages[0]

    def _skipped(
        self,
        held: HeldJob,
        plan: ExportPlan,
        place: Place,
        error: Forbidden | InvalidSearch | TooCostly,
    ) -> Place | None:
        """The type behind one that cannot be asked for, which is noted if it was named."""
        job = held.job
        name = job.types[place.type]
        if job.request.types or isinstance(error, TooCostly):
            issue = error.issues[0]
            note = (issue.code, f"{name}: {issue.diagnostics}")
            held.job = msgspec.structs.replace(job, notes=(*job.notes, note))
        return plan.next_type(place)

    async def _write_deleted(self, held: HeldJob, place: Place, writer: "_Writer") -> Place | None:
        """What was deleted since, a Bundle for each stretch of the commit order."""
        job = held.job
        since, as_of = job.request.since, job.as_of
        if since is None or as_of is None:
            return None
        plan = await self._plan(held)
        after = place.sequence
        if after is None:
            after = await self._first_since(since, as_of) - 1
        while after < as_of and writer.length < self._limits.length:
            held.check()
            begun = monotonic()
            until = min(after + self._limits.window, as_of)
            try:
                entries = await self._deletions(held, plan, after, until, writer)
            except Forbidden as error:
                note = (error.code, f"what was deleted: {error.issues[0].diagnostics}")
                held.job = msgspec.structs.replace(held.job, notes=(*job.notes, note))
                return None
            if entries:
                bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
                await writer.write([resource_json.format(bundle) + b"\n"])
            after = until
            await _rest(begun)
        return None if after >= as_of else Place("deleted", sequence=after)

    async def _deletions(
        self, held: HeldJob, plan: ExportPlan, after: int, until: int, writer: "_Writer"
    ) -> list[resource_json.Resource]:
        entries: list[resource_json.Resource] = []
        types = frozenset(held.job.types)
        query = HistoryQuery(
            since=await self._time_of(after + 1),
            count=until - after,
            as_of=until,
            after=after,
            is_oldest_first=True,
        )

        async def look(ctx: Context) -> Sequence[Version]:
            await writer.note(ctx)
            told: list[Version] = []
            for version in (await ctx.store.history(query)).versions:
                key = version.key
                if not version.is_deletion or key.resource_type not in types:
                    continue
                if not await self._is_last(version, held.job.as_of or 0):
                    continue
                before = await self._source.vread(key, version.version_id - 1)
                if before is not None and not before.is_deletion and plan.concerns(ctx, before):
                    entries.append(export_plan.deletion_entry(key))
                    told.append(before)
            return told

        await self._read(held, look, is_noted=False)
        return entries

    async def _is_last(self, deletion: Version, as_of: int) -> bool:
        """Whether it was still deleted at that position: what came back is in the other files."""
        following = await self._source.vread(deletion.key, deletion.version_id + 1)
        return following is None or following.sequence > as_of

    async def _plan(self, held: HeldJob) -> ExportPlan:
        job = held.job
        known = self._plans.get(held.name)
        if known is not None and known[0] == job.as_of:
            return known[1]
        plans: list[ExportPlan] = []

        async def make(ctx: Context) -> Sequence[Version]:
            read: list[Version] = []
            patients = job.request.patients
            if job.group is not None:
                name, version_id = job.group
                key = ResourceKey("Group", name)
                group = await ctx.store.vread(key, version_id)
                found: list[str] = []
                if group is not None and not group.is_deletion:
                    read.append(group)
                    found = list(dict.fromkeys(export_plan.members(group.resource(), job)))
                asked = None if patients is None else frozenset(patients)
                patients = tuple(each for each in found if asked is None or each in asked)
            plans.append(ExportPlan(job, patients, await export_plan.criteria(ctx, job)))
            return read

        await self._read(held, make)
        # Of the job at hand alone: a large group is a large plan.
        self._plans = {held.name: (job.as_of, plans[0])}
        return plans[0]

    async def _read(self, held: HeldJob, work: Work, *, is_noted: bool = True) -> None:
        """Do `work` for the job's principal; what it returns is on record before this does.

        `is_noted`: so is all else that it looks at, as the store itself has it.
        """
        job = held.job
        principal = (
            ANONYMOUS if job.principal is None else subscriber.parse_principal(job.principal)
        )

        async def read() -> None:
            access.begin_asking(lambda: principal)
            turns.client.set(f"exports of {principal.client_id}")
            parts = urlsplit(job.url)
            request = Access(
                "GET",
                parts.path,
                parts.query,
                find_interaction=lambda: "$export",
                request_id=held.name,
            )
            if self._journal is not None and is_noted:
                access.begin(request)
            ctx = self._find_context().at(job.base_url)
            if job.principal is not None:
                ctx = await self._authorizer.authorize(ctx, principal)
            versions = await work(ctx)
            if self._journal is not None and versions:
                if not is_noted:
                    request.saw(versions)
                entry = request.of_answer(200)
                if entry is not None:
                    await self._journal.write(entry)

        # A task of its own: whom it works for is known to nothing else.
        await asyncio.create_task(read())

    async def _time_of(self, sequence: int) -> datetime:
        (version,) = await self._source.changes(sequence - 1, 1)
        return version.last_updated

    async def _first_since(self, since: datetime, newest: int) -> int:
        """The first sequence that is not from before `since`; times follow the commit order."""
        low, high = 1, newest + 1
        while low < high:
            middle = (low + high) // 2
            if await self._time_of(middle) < since:
                low = middle + 1
            else:
                high = middle
        return low


class _Writer:
    """A file that is begun with its first line; its blocking work is done on threads."""

    def __init__(self, held: HeldJob) -> None:
        self._held = held
        self._writer: ExportWriter | None = None
        self._marks: set[str] = set()

    @property
    def count(self) -> int:
        return 0 if self._writer is None else self._writer.count

    @property
    def length(self) -> int:
        return 0 if self._writer is None else self._writer.length

    async def note(self, ctx: Context) -> None:
        """Remember within whose reach it is made."""
        if ctx.reach is not None:
            self._marks.add(await asyncio.to_thread(mark, ctx, self._held.job))

    async def write(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        if self._writer is None:
            held = self._held
            # Of two that write at one job for a moment, each has files of its own.
            name = f"{len(held.job.files) + 1}-{token_hex(8)}.ndjson"
            self._writer = ExportWriter(held.store, held.name, name)
        await asyncio.to_thread(self._writer.write, lines)

    async def finish(self, kind: FileKind, resource_type: str) -> ExportFile | None:
        if self._writer is None:
            return None
        mark_of_all = self._marks.pop() if len(self._marks) == 1 else ""
        return await asyncio.to_thread(self._writer.finish, kind, resource_type, mark_of_all)

    async def drop(self) -> None:
        if self._writer is not None:
            await asyncio.to_thread(self._writer.drop)


def _behind(place: Place, cursor: Cursor) -> Place:
    return msgspec.structs.replace(place, values=cursor.values, sequence=cursor.sequence)


async def _rest(begun: float) -> None:
    await asyncio.sleep(min(monotonic() - begun, _LONGEST_REST))
