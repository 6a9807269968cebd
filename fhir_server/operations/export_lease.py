"""HeldJob: an export that one process works on, until it is given back or somebody takes it.

Whoever dies is followed by another process when the lease is over. What is saved says whose
it is: of two who believe to hold a job the slower finds it changed, and leaves it alone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

import msgspec

from fhir_server.core.bulk import job as export_job
from fhir_server.core.bulk.job import ExportJob
from fhir_server.errors import StoreUnavailable
from fhir_server.store.exports.protocol import ExportStore, JobRecord

LEASE = timedelta(seconds=15)


def kept_jobs(store: ExportStore) -> list[tuple[JobRecord, ExportJob]]:
    """All that are kept and understood: a newer release's are left to it."""
    found = []
    for record in store.jobs():
        with suppress(ValueError):
            found.append((record, export_job.parse(record.text)))
    return found


class LostError(Exception):
    """The job is somebody else's by now, or nobody's."""


class HeldJob:
    """`job` is how far it is, whether that is saved or not."""

    def __init__(
        self,
        store: ExportStore,
        record: JobRecord,
        job: ExportJob,
        owner: str,
        now: Callable[[], datetime],
    ) -> None:
        self.name = record.name
        self.job = job
        self.store = store
        self._record = record
        self._owner = owner
        self._now = now
        self._lock = asyncio.Lock()
        self._is_lost = False
        self.saved = now()

    def check(self) -> None:
        """Raises `LostError` where it is known by now that it is lost."""
        if self._is_lost:
            raise LostError

    async def take(self) -> bool:
        """Whether nobody else was first."""
        try:
            await self._write(self._held)
        except LostError:
            return False
        return True

    async def save(self, job: ExportJob) -> None:
        """Make `job` durable, and hold it for another lease.

        Raises:
            LostError: it is not ours any more.
            StoreUnavailable: it is not saved.
        """
        await self._write(lambda _: self._held(job))

    async def give_back(self, job: ExportJob, delay: timedelta = timedelta(0)) -> None:
        """Save it for whoever is next, after `delay` if it is not done; raises as `save`."""
        now = self._now()
        until = now + delay if delay else None
        free = msgspec.structs.replace(job, holder="", until=until, worked=now)
        await self._write(lambda _: free, is_last=True)

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """The lease is renewed inside of this, however long a step takes."""
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _renew(self) -> None:
        while not self._is_lost:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            with suppress(LostError, StoreUnavailable):
                await self._write(self._held)

    def _held(self, job: ExportJob) -> ExportJob:
        return msgspec.structs.replace(job, holder=self._owner, until=self._now() + LEASE)

    async def _write(
        self, change: Callable[[ExportJob], ExportJob], *, is_last: bool = False
    ) -> None:
        async with self._lock:
            self.check()
            # Only here: what was saved meanwhile must not be taken back.
            job = change(self.job)
            record = await asyncio.to_thread(
                self.store.replace, self._record, export_job.format(job)
            )
            self._is_lost = is_last or record is None
            if record is None:
                raise LostError
            self._record, self.job, self.saved = record, job, self._now()
