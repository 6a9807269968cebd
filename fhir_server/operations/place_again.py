"""Placing again, beside the work: readings of devices whose assignment was corrected.

Any number of processes may do it: each piece is decided where it commits, and a lease
keeps them from doing it twice for nothing. A process that dies is followed by another.
"""

import asyncio
import logging

from fhir_server.core.mapping.catalog import MappingCatalog
from fhir_server.core.mapping.reading import Verdict
from fhir_server.core.monitoring import placing_work
from fhir_server.core.monitoring.placing_work import Counts, Step
from fhir_server.core.monitoring.quarantine import TASK_SYSTEM
from fhir_server.core.search.query import Clause, Query, TokenValue
from fhir_server.core.version import Version
from fhir_server.errors import FhirError, InvalidResource
from fhir_server.interactions.context import Context
from fhir_server.operations.assignments import Assignments
from fhir_server.operations.guard_assignments import held_back
from fhir_server.operations.move_readings import Piece, decide_end, decide_piece
from fhir_server.operations.reprocess_quarantine import reprocess
from fhir_server.store.protocol import Transaction

_log = logging.getLogger(__name__)

_PAGE = 50


class PlacingAgain:
    """What a process needs for it; `owner` names the process."""

    def __init__(self, ctx: Context, mappings: MappingCatalog, owner: str) -> None:
        self._ctx = ctx
        self._mappings = mappings
        self._owner = owner
        self._assignments = Assignments()

    async def keep_placing(self, seconds: float) -> None:
        """Look for work again and again until cancelled; `seconds` 0 is never."""
        while seconds:
            await asyncio.sleep(seconds)
            try:
                await self.place_all()
            except FhirError as error:
                _log.warning("no readings were placed again: %s", error)

    async def place_all(self) -> Counts:
        """Do all the work that waits and is nobody else's; what was done."""
        done = Counts()
        for task in await self._waiting():
            while (piece := await self._next(task)) is not None:
                if piece.work.step is Step.QUARANTINE:
                    released = await self._release(piece)
                    counts = piece.work.counts.plus(Counts(released=released))
                    if await self._ctx.store.commit(decide_end(piece.version, counts)):
                        done = done.plus(counts)
                    break
                # Between two pieces those who wait for an answer come first.
                await asyncio.sleep(0)
        return done

    async def _waiting(self) -> tuple[Version, ...]:
        code, status = (self._ctx.parameters.get("Task", name) for name in ("code", "status"))
        if code is None or status is None:
            raise LookupError("a Task cannot be searched by its code and status")
        criteria = (
            Clause(code, "", (TokenValue(TASK_SYSTEM, placing_work.TASK_CODE),)),
            Clause(status, "", tuple(TokenValue(None, s) for s in placing_work.OPEN_STATUSES)),
        )
        page = await self._ctx.store.search(Query("Task", criteria, count=_PAGE))
        now = self._ctx.now()
        return tuple(
            version
            for version in page.versions
            if placing_work.is_for(version.resource(), self._owner, now)
        )

    async def _next(self, task: Version) -> Piece | None:
        return await self._ctx.store.commit(decide_piece(self._ctx, task.key, self._owner))

    async def _release(self, piece: Piece) -> int:
        """Try again what was held back of the device; how many readings have their place."""

        def queries(tx: Transaction) -> tuple[Query, ...]:
            return held_back(tx, self._ctx.parameters, piece.work.device)

        released = 0
        for first in await self._ctx.store.commit(queries):
            query: Query | None = first._replace(count=_PAGE)
            while query is not None:
                page = await self._ctx.store.search(query)
                for version in page.versions:
                    released += await self._is_released(version)
                query = page.next and query._replace(after=page.next, as_of=page.as_of)
        return released

    async def _is_released(self, version: Version) -> bool:
        try:
            result = await reprocess(self._ctx, self._assignments, self._mappings, version)
        except InvalidResource as error:
            # One Task that somebody altered never stops the others.
            _log.warning("%s was not tried again: %s", version.key, error)
            return False
        return result.verdict in (Verdict.ACCEPTED, Verdict.DUPLICATE)
