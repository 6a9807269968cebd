"""Exports are made, and cleared away, beside the requests of every process (ADR 0034).

A process takes the job that waited longest, writes at it for some seconds, and takes the
next: a large export keeps no small one waiting. What is done is saved with each whole file.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from fhir_server.core.bulk import job as export_job
from fhir_server.core.bulk.job import ExportJob
from fhir_server.errors import FhirError, Gone, StoreUnavailable
from fhir_server.operations.export_lease import HeldJob, LostError, kept_jobs
from fhir_server.operations.export_steps import ExportSteps
from fhir_server.store.exports.protocol import ExportStore, JobRecord

_log = logging.getLogger(__name__)

_TURN = timedelta(seconds=10)
_SAVED_EVERY = timedelta(seconds=2)
_RETRY = timedelta(seconds=5)
_IDLE_SECONDS = 1.0
_CLEAN_EVERY = timedelta(seconds=60)
_MOST_ATTEMPTS = 3
# What is not done by then never will be; what it holds back of the store is let go.
_GIVEN_UP = timedelta(days=7)


class Exporter:
    """One of each process. `owner` is its name among those that share the store.

    Files can be fetched for as long as they are `kept` when all of them are there.
    """

    def __init__(
        self,
        store: ExportStore,
        steps: ExportSteps,
        now: Callable[[], datetime],
        owner: str,
        kept: timedelta = timedelta(hours=24),
    ) -> None:
        self._store = store
        self._steps = steps
        self._now = now
        self._owner = owner
        self._kept = kept
        self._cleaned: datetime | None = None

    async def keep(self) -> None:
        """Work until cancelled."""
        while True:
            has_worked = False
            try:
                has_worked = await self.work()
                if self._cleaned is None or self._now() - self._cleaned > _CLEAN_EVERY:
                    await self.clean()
            except FhirError as error:
                _log.warning("exports were not looked after: %s", error)
            except Exception as error:  # a loop that ends would leave every later job waiting
                _tell(error)
            if not has_worked:
                await asyncio.sleep(_IDLE_SECONDS)

    async def work(self) -> bool:
        """Write at one job for a while; False if none waits."""
        held = await self._take()
        if held is None:
            return False
        try:
            async with held.renewed():
                await self._advance(held)
        except LostError:
            _log.info("an export was ended, or taken over")
        return True

    async def clean(self) -> None:
        """Take away what is over, and what belongs to nothing."""
        now = self._cleaned = self._now()
        for record, job in await asyncio.to_thread(kept_jobs, self._store):
            is_over = job.expires is not None and job.expires <= now
            if job.state == "ended" or is_over:
                await asyncio.to_thread(self._store.remove, record.name)
            elif job.state == "waiting" and now - job.at > _GIVEN_UP:
                over = self._failed(job, "timeout", "the export took longer than a week")
                await asyncio.to_thread(self._store.replace, record, export_job.format(over))
        for name in await asyncio.to_thread(self._store.strays):
            await asyncio.to_thread(self._store.remove, name)

    async def find_hold(self) -> datetime | None:
        """From when on the store has to be searchable for what is under way."""
        jobs = [job for _, job in await asyncio.to_thread(kept_jobs, self._store)]
        moments = [each.moment for each in jobs if each.state == "waiting" and each.moment]
        return min(moments, default=None)

    async def _take(self) -> HeldJob | None:
        now = self._now()
        waiting: list[tuple[datetime, JobRecord, ExportJob]] = []
        for record, job in await asyncio.to_thread(kept_jobs, self._store):
            if job.state == "waiting" and (job.until is None or job.until <= now):
                waiting.append((job.worked or job.at, record, job))
        for _, record, job in sorted(waiting, key=lambda each: each[:2]):
            held = HeldJob(self._store, record, job, self._owner, self._now)
            if await held.take():
                return held
        return None

    async def _advance(self, held: HeldJob) -> None:
        begun = self._now()
        try:
            if held.job.as_of is None:
                await held.save(await self._steps.begin(held.job))
            while held.job.place is not None and self._now() - begun < _TURN:
                job = await self._steps.write(held, held.job.place)
                is_worth_it = len(job.files) > len(held.job.files) or job.place is None
                if is_worth_it or self._now() - held.saved > _SAVED_EVERY:
                    await held.save(job)
                else:
                    held.job = job
            job = held.job if held.job.place else await self._finished(held)
            await held.give_back(job)
        except Gone:
            # The moment is kept no more: all of it has to be of another.
            await self._begin_anew(held)
        except StoreUnavailable:
            await held.give_back(held.job, _RETRY)
        except asyncio.CancelledError:
            # The process ends: the next one need not wait for the lease.
            await held.give_back(held.job)
            raise
        except FhirError as error:
            issue = error.issues[0]
            await self._end(held, self._failed(held.job, issue.code, issue.diagnostics))
        except LostError:
            raise
        except Exception as error:
            _tell(error)
            if held.job.attempts + 1 < _MOST_ATTEMPTS:
                job = msgspec.structs.replace(held.job, attempts=held.job.attempts + 1)
                await held.give_back(job, _RETRY)
            else:
                await self._end(held, self._failed(held.job, "exception", "something unexpected"))

    async def _finished(self, held: HeldJob) -> ExportJob:
        job = held.job
        if notes := (*(("informational", each) for each in job.request.ignored), *job.notes):
            job = await self._steps.write_notes(held, notes)
        expires = self._now() + self._kept
        return msgspec.structs.replace(job, state="done", expires=expires)

    async def _begin_anew(self, held: HeldJob) -> None:
        job = held.job
        if job.attempts + 1 >= _MOST_ATTEMPTS:
            why = "the store forgot the moment of the export, again and again"
            await self._end(held, self._failed(job, "timeout", why))
            return
        anew = msgspec.structs.replace(
            job, as_of=None, moment=None, place=None, files=(), exported=0, notes=(),
            attempts=job.attempts + 1,
        )  # fmt: skip
        await self._end(held, anew)

    async def _end(self, held: HeldJob, job: ExportJob) -> None:
        """Save a job that has no files any more, and take away those that it had."""
        files = held.job.files
        await held.give_back(job)
        for each in files:
            await asyncio.to_thread(self._store.drop, held.name, each.name)

    def _failed(self, job: ExportJob, code: str, why: str) -> ExportJob:
        return msgspec.structs.replace(
            job, state="failed", failure=(code, why), files=(), place=None, holder="", until=None,
            expires=self._now() + self._kept,
        )  # fmt: skip


def _tell(error: Exception) -> None:
    # The message of a foreign exception may quote a patient's data, its frames do not.
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("an export met an unexpected %s\n%s", type(error).__name__, frames)
