"""Turns: a few places at a time, given to those who wait by client, one client after the other.

A client that asks a thousand times at once waits for itself; who asks once is next but for
one request of each other client. `client` says on whose behalf something is done.
"""

import asyncio
from collections import OrderedDict, deque
from contextvars import ContextVar
from typing import NamedTuple

from fhir_server.errors import StoreUnavailable, Throttled

client: ContextVar[str] = ContextVar("client", default="")


class TurnLimits(NamedTuple):
    """`places` there are, of which one client has at most `per_client`.

    `waiting` and `waiting_per_client` bound who may wait, `seconds` for how long.
    """

    places: int
    per_client: int
    waiting: int = 2_000
    waiting_per_client: int = 500
    seconds: float = 30.0


class Turns:
    """Of one event loop. Whoever took a place gives it back, also when it failed."""

    def __init__(self, limits: TurnLimits) -> None:
        self._limits = limits
        self._taken: dict[str, int] = {}
        self._in_all = 0
        self._waiting = 0
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    def take_at_once(self, name: str) -> bool:
        """Take a place if nobody has to wait for that."""
        if self._in_all >= self._limits.places or name in self._queues or not self._may(name):
            return False
        self._count(name)
        return True

    async def take(self, name: str) -> None:
        """Take a place; wait for it if need be.

        Raises:
            Throttled: too many of this client wait already.
            StoreUnavailable: too many wait in all, or it took too long.
        """
        if self.take_at_once(name):
            return
        limits = self._limits
        if self._waiting >= limits.waiting:
            raise StoreUnavailable("too many requests are waiting")
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = deque()
        elif len(queue) >= limits.waiting_per_client:
            raise Throttled("too many requests of this client are waiting", 1)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._waiting += 1
        try:
            async with asyncio.timeout(limits.seconds):
                await turn
        except BaseException as error:
            # Given in the same moment: somebody else shall have it.
            if turn.done() and not turn.cancelled():
                self.give_back(name)
            else:
                self._leave(name, queue, turn)
            if isinstance(error, TimeoutError):
                raise StoreUnavailable("no turn came in time: too much is asked") from None
            raise

    def give_back(self, name: str) -> None:
        """End of a turn; who waits is next."""
        self._in_all -= 1
        left = self._taken[name] - 1
        if left:
            self._taken[name] = left
        else:
            del self._taken[name]
        while self._in_all < self._limits.places and self._give_next():
            pass

    def _give_next(self) -> bool:
        # Only clients that have all they may have are passed over, and those are few.
        name = next((name for name in self._queues if self._may(name)), None)
        if name is None:
            return False
        queue = self._queues[name]
        turn = queue.popleft()
        self._waiting -= 1
        if queue:
            self._queues.move_to_end(name)
        else:
            del self._queues[name]
        # Whoever gave up may not have been woken yet to leave the queue.
        if not turn.cancelled():
            self._count(name)
            turn.set_result(None)
        return True

    def _leave(
        self, name: str, queue: deque[asyncio.Future[None]], turn: asyncio.Future[None]
    ) -> None:
        if turn not in queue:
            return
        queue.remove(turn)
        self._waiting -= 1
        if not queue:
            del self._queues[name]

    def _may(self, name: str) -> bool:
        return self._taken.get(name, 0) < self._limits.per_client

    def _count(self, name: str) -> None:
        self._in_all += 1
        self._taken[name] = self._taken.get(name, 0) + 1
