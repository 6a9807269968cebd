"""The journal: records of requests that changed nothing, durable before they are answered.

Those that arrive while a commit is under way go together into the next one: however many
clients read, a process has one commit of theirs in flight. Where many come at once, the next
commit waits a moment for more of them: what it costs they share (ADR 0035).
"""

import asyncio
from typing import Any

from fhir_server.store.protocol import Store
from fhir_server.store.trail import TrailEntry

_GATHERING_SECONDS = 0.002
# Whoever asks alone, or nearly so, would wait for nobody.
_CROWD = 8


class AuditJournal:
    """Writes records to `store`, in groups; of one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[TrailEntry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[Any] | None = None

    async def write(self, entry: TrailEntry) -> None:
        """Return when `entry` is durable.

        Raises:
            StoreUnavailable: it is not, nor will it be.
        """
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await written

    async def _write_all(self) -> None:
        try:
            size = 0
            while self._waiting:
                if size >= _CROWD:
                    await asyncio.sleep(_GATHERING_SECONDS)
                group, self._waiting = self._waiting, []
                size = len(group)
                try:
                    await self._commit([entry for entry, _ in group])
                except Exception as error:
                    for _, written in group:
                        if not written.done():
                            written.set_exception(error)
                else:
                    for _, written in group:
                        if not written.done():
                            written.set_result(None)
        finally:
            self._writing = None

    async def _commit(self, entries: list[TrailEntry]) -> None:
        await self._store.commit(lambda tx: tx.record(entries))
