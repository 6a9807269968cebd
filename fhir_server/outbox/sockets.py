"""The websockets of one process: who is bound to what, woken when there is something to tell."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Protocol

from fhir_server.core.identity import ResourceKey
from fhir_server.core.websocket_binding import Bind, parse, unseal
from fhir_server.errors import FhirError
from fhir_server.outbox.socket_binding import Refusal, SocketBinding, SocketSurroundings

_log = logging.getLogger(__name__)

_PAGE = 1_000
_UNBOUND_SECONDS = 30.0
_LOOK_AGAIN = 5.0
_MOST_BINDINGS = 100

NORMAL, REFUSED, TRY_AGAIN = 1000, 1008, 1013


class Socket(Protocol):
    """A websocket that was accepted."""

    async def receive(self) -> str | None:
        """The next text; None when the client is gone."""
        ...

    async def send(self, text: str) -> None:
        """Waits while the client reads nothing."""
        ...

    async def close(self, code: int) -> None: ...


class _Bound:
    """A binding with what wakes it."""

    def __init__(self, binding: SocketBinding) -> None:
        self.binding = binding
        self.woken = asyncio.Event()


class Sockets:
    """For one event loop; `following` has to be open while sockets are served.

    A client that reads nothing for `patience` seconds is cut off: what it was not given
    waits in the ledger for its next socket. `poll` is the longest that another process's
    events go unnoticed. With `is_token_needed` naming a Subscription does not do.
    """

    def __init__(
        self,
        shared: SocketSurroundings,
        key: bytes,
        *,
        poll: float = 0.25,
        patience: float = 20.0,
        is_token_needed: bool = False,
    ) -> None:
        self._shared = shared
        self._key = key
        self._poll = poll
        self._patience = patience
        self._is_token_needed = is_token_needed
        self._bound: dict[str, set[_Bound]] = {}
        self._committed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Wake the bindings as the ledger grows."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._loop = None
            task.cancel()

    def nudge(self) -> None:
        """Something was committed. From any thread, cheap."""
        loop = self._loop
        if loop is not None and self._bound:
            loop.call_soon_threadsafe(self._committed.set)

    async def serve(self, socket: Socket) -> None:
        """Hear the client and tell it of its Subscriptions until it goes."""
        writing = asyncio.Lock()
        tasks: dict[ResourceKey, asyncio.Task[None]] = {}

        async def send(text: str) -> None:
            async with writing, asyncio.timeout(self._patience):
                await socket.send(text)

        async def hear() -> None:
            while True:
                async with asyncio.timeout(None if tasks else _UNBOUND_SECONDS):
                    text = await socket.receive()
                if text is None:
                    return
                await self._bind(text, send, tasks, over)

        over: asyncio.Queue[int] = asyncio.Queue()
        hearing = asyncio.create_task(hear())
        hearing.add_done_callback(lambda _: over.put_nowait(NORMAL))
        code = NORMAL
        try:
            code = await over.get()
            if hearing.done() and (failure := hearing.exception()) is not None:
                is_idle = isinstance(failure, TimeoutError) and not tasks
                code = REFUSED if is_idle else TRY_AGAIN
        finally:
            for task in (hearing, *tasks.values()):
                task.cancel()
            await asyncio.gather(hearing, *tasks.values(), return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await socket.close(code)

    async def _bind(
        self,
        text: str,
        send: "_Send",
        tasks: dict[ResourceKey, asyncio.Task[None]],
        over: "asyncio.Queue[int]",
    ) -> None:
        asked = parse(text)
        ids: tuple[str, ...] | None = None
        if isinstance(asked, Bind) and self._is_token_needed:
            await send("error a token is needed: Subscription/$get-ws-binding-token")
            return
        if isinstance(asked, Bind):
            ids = (asked.resource_id,)
        elif asked is not None:
            ids = unseal(asked.token, self._shared.now(), self._key)
            if ids is None:
                await send("error the token is not ours or has expired")
                return
        if ids is None:
            await send("error expected bind <id> or bind-with-token <token>")
            return
        for each in ids:
            key = ResourceKey("Subscription", each)
            if key in tasks:
                continue
            if len(tasks) >= _MOST_BINDINGS:
                await send(f"error more than {_MOST_BINDINGS} Subscriptions")
                return
            try:
                binding = await asyncio.to_thread(
                    SocketBinding, self._shared, key, by_token=not isinstance(asked, Bind)
                )
            except (Refusal, FhirError) as refused:
                await send(f"error {refused}")
                continue
            await send(await asyncio.to_thread(binding.greeting))
            task = asyncio.create_task(self._tell(binding, send))
            tasks[key] = task

            def ended(done: asyncio.Task[None], key: ResourceKey = key) -> None:
                if done.cancelled():
                    return
                tasks.pop(key, None)
                if done.exception() is not None:
                    over.put_nowait(TRY_AGAIN)
                elif not tasks:
                    over.put_nowait(NORMAL)

            task.add_done_callback(ended)

    async def _tell(self, binding: SocketBinding, send: "_Send") -> None:
        """Tell one Subscription's events until it listens no more."""
        bound = _Bound(binding)
        self._bound.setdefault(binding.sink, set()).add(bound)
        spoken = self._shared.now()
        try:
            while (subscription := await asyncio.to_thread(binding.subscription)) is not None:
                bound.woken.clear()
                told = await asyncio.to_thread(binding.look)
                if told is not None:
                    if told.text:
                        await send(told.text)
                        spoken = self._shared.now()
                    await asyncio.to_thread(binding.acknowledge, told)
                    continue
                period = subscription.channel.heartbeat_seconds
                if period is not None and self._seconds_since(spoken) >= period:
                    beat = await asyncio.to_thread(binding.heartbeat)
                    if beat is not None:
                        await send(beat)
                    spoken = self._shared.now()
                left = None if period is None else period - self._seconds_since(spoken)
                await self._wait(bound, min(_LOOK_AGAIN, max(0.05, left or _LOOK_AGAIN)))
        except FhirError as error:
            # The store is away: the client comes back, and finds what it was not told.
            _log.warning("a websocket was given up: %s", error)
            raise
        finally:
            others = self._bound[binding.sink]
            others.discard(bound)
            if not others:
                del self._bound[binding.sink]

    async def _wait(self, bound: _Bound, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await bound.woken.wait()
        except TimeoutError:
            return

    def _seconds_since(self, when: datetime) -> float:
        return (self._shared.now() - when).total_seconds()

    async def _follow(self) -> None:
        seen = None
        while True:
            self._committed.clear()
            try:
                if not self._bound:
                    seen = None
                else:
                    seen = await asyncio.to_thread(self._news, seen)
            except FhirError as error:
                _log.warning("the ledger was not looked at: %s", error)
            except Exception as error:  # a task that ends would leave all sockets waiting
                _log.error(
                    "the ledger was not looked at", extra={"error": type(error).__qualname__}
                )
            try:
                async with asyncio.timeout(self._poll):
                    await self._committed.wait()
                # Committed is not yet fanned out: that takes a moment more.
                await asyncio.sleep(0.01)
            except TimeoutError:
                continue

    def _news(self, seen: int | None) -> int:
        """Wake the bindings of the deliveries behind `seen`; how far that was."""
        outbox, loop = self._shared.outbox, self._loop
        newest = outbox.newest()
        if loop is None or newest == seen:
            return newest
        sinks = None
        if seen is not None and newest - seen <= _PAGE:
            sinks = {each.sink for each in outbox.list(None, (), _PAGE, seen)}
        loop.call_soon_threadsafe(self._wake, sinks)
        return newest

    def _wake(self, sinks: set[str] | None) -> None:
        for sink in tuple(self._bound) if sinks is None else sinks:
            for bound in self._bound.get(sink, ()):
                bound.woken.set()


class _Send(Protocol):
    async def __call__(self, text: str) -> None: ...
