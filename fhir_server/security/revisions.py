"""Revisions: whether anything about who may come in has changed, asked before every request."""

import asyncio
from collections.abc import Callable
from time import monotonic

from fhir_server.store.security.protocol import SecurityStore

FAR_SECONDS = 0.2
"""How old an answer of a store on another machine may be."""


class Revisions:
    """A file is looked at for each request, which costs microseconds. Of a database the answer
    is shared by those who ask within `FAR_SECONDS`; who comes later waits for a new one.
    """

    def __init__(self, store: SecurityStore, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._clock = clock
        self._asking: asyncio.Task[int] | None = None
        self._asked = 0.0

    async def current(self) -> int:
        """Raises `StoreUnavailable`: nobody can be let in while it cannot be told."""
        if self._store.is_near:
            return self._store.revision()
        now = self._clock()
        if self._asking is None or now - self._asked > FAR_SECONDS or _failed(self._asking):
            self._asked = now
            self._asking = asyncio.create_task(asyncio.to_thread(self._store.revision))
        # Shielded: the client that asked first may go while others wait.
        return await asyncio.shield(self._asking)


def _failed(task: asyncio.Task[int]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
