"""FairShare: a few requests at a time, and their turns by client.

Stands behind what knows who asks. A place is held while there is work, not while a body is
on its way: who sends slowly keeps nobody from anything.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir_server.errors import FhirError
from fhir_server.rest import error_handler
from fhir_server.rest.client_address import ClientAddresses
from fhir_server.rest.request_rate import RequestRate
from fhir_server.store import turns
from fhir_server.store.turns import TurnLimits, Turns

# Asked for by those who look after the server, when it has much to do above all.
_ALWAYS = frozenset({"/health/live", "/health/ready", "/metrics"})
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_SAFE = frozenset({"GET", "HEAD"})
# A body up to this is taken in before there is a place; longer ones stream.
_GATHERED_BYTES = 64 * 1024
# Work that is done by then is not worth a look whether its client is still there.
_PATIENCE_SECONDS = 1.0


class ClientLimits(NamedTuple):
    """What one process does at once, and for one client of it; 0 a minute is without a limit."""

    at_once: int = 256
    per_minute: int = 0
    waiting: int = 2_000
    waiting_per_client: int = 500
    seconds: float = 30.0
    trusted_proxies: Sequence[str] = ()

    def turns(self) -> TurnLimits:
        # A quarter is always left to others.
        per_client = max(1, self.at_once - self.at_once // 4)
        return TurnLimits(
            self.at_once, per_client, self.waiting, self.waiting_per_client, self.seconds
        )


class FairShare:
    """Around the application, for HTTP."""

    def __init__(self, app: ASGIApp, limits: ClientLimits) -> None:
        self._app = app
        self._turns = Turns(limits.turns())
        self._rate = RequestRate(limits.per_minute)
        self._addresses = ClientAddresses(limits.trusted_proxies)
        self._watches = _Watches()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        name = self._name(scope)
        turns.client.set(name)
        try:
            self._rate.count(name)
            source = receive
            if scope["method"] not in _WITHOUT_BODY:
                source = await self._gather(scope, name, receive)
            if not self._turns.take_at_once(name):
                await self._turns.take(name)
        except FhirError as error:
            await error_handler.respond(error)(scope, receive, send)
            return
        task = asyncio.current_task() if scope["method"] in _SAFE else None
        if task is not None:
            self._watches.add(task, receive)
        try:
            await self._app(scope, source, send)
        except asyncio.CancelledError:
            if task is None or not self._watches.has_gone(task):
                raise
        finally:
            if task is not None:
                self._watches.remove(task)
            if not isinstance(source, _Stream) or source.is_held:
                self._turns.give_back(name)

    def _name(self, scope: Scope) -> str:
        """Who asks: the client that has proven itself, else the address."""
        principal: Any = scope.get("principal")
        client_id = getattr(principal, "client_id", "")
        return f"client {client_id}" if client_id else self._addresses.find(scope)

    async def _gather(self, scope: Scope, name: str, receive: Receive) -> Receive:
        """What the application reads the body from: it is here, or it streams."""
        length = 0
        for header, value in scope["headers"]:
            if header == b"content-length" and value.isdigit() and len(value) < 20:
                length = int(value)
            elif header in (b"transfer-encoding", b"expect"):
                return _Stream(self._turns, name, receive)
        if length > _GATHERED_BYTES:
            return _Stream(self._turns, name, receive)
        first = await receive()
        while first.get("more_body", False):
            more = await receive()
            if more["type"] != "http.request":
                first = more
                break
            first["body"] = first.get("body", b"") + more.get("body", b"")
            first["more_body"] = more.get("more_body", False)
        return _Gathered(first, receive)


class _Watches:
    """The questions at work: one whose client goes away is not answered to the end.

    One timer looks at all of them, as most are done by then: from one look to the next is the
    patience that each is given at least.
    """

    def __init__(self) -> None:
        self._new: dict[asyncio.Task[Any], Receive] = {}
        self._known: dict[asyncio.Task[Any], Receive] = {}
        self._watched: dict[asyncio.Task[Any], _Watch] = {}
        self._is_timed = False

    def add(self, task: asyncio.Task[Any], receive: Receive) -> None:
        self._new[task] = receive
        if not self._is_timed:
            self._look_later()

    def has_gone(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` was cancelled for that."""
        return task in self._watched and self._watched[task].is_gone

    def remove(self, task: asyncio.Task[Any]) -> None:
        if self._new.pop(task, None) is not None or self._known.pop(task, None) is not None:
            return
        self._watched.pop(task).end()

    def _look_later(self) -> None:
        self._is_timed = True
        asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._look)

    def _look(self) -> None:
        self._is_timed = False
        for task, receive in self._known.items():
            self._watched[task] = _Watch(task, receive)
        self._known, self._new = self._new, {}
        if self._known:
            self._look_later()


class _Watch:
    """Cancels `task` when its client has gone."""

    def __init__(self, task: asyncio.Task[Any], receive: Receive) -> None:
        self.is_gone = False
        self._task = task
        self._listening = asyncio.create_task(self._listen(receive))

    def end(self) -> None:
        self._listening.cancel()

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._task.cancel()


class _Gathered:
    """A body that is here already."""

    def __init__(self, first: Message, receive: Receive) -> None:
        self._first: Message | None = first
        self._receive = receive

    async def __call__(self) -> Message:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._receive()


class _Stream:
    """A body that is on its way: whoever waits for it lets others have the place meanwhile."""

    def __init__(self, places: Turns, name: str, receive: Receive) -> None:
        self.is_held = True
        self._turns = places
        self._name = name
        self._receive = receive

    async def __call__(self) -> Message:
        self.is_held = False
        self._turns.give_back(self._name)
        message = await self._receive()
        await self._turns.take(self._name)
        self.is_held = True
        return message
