"""Connection: uvicorn's HTTP connection, but nobody may have too many or be slow without end.

What a connection waits for is looked at every now and then, so that a request pays nothing
for it: a head that does not end, a body or a reader that stands still.
"""

import asyncio
from collections import Counter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from fhir_server.errors import FhirError, HeadTooLarge, StoreUnavailable, TooSlow
from fhir_server.rest import error_handler
from fhir_server.rest.client_address import UNKNOWN, ClientAddresses
from fhir_server.rest.whole_answer import WholeAnswer

# What has to come, or go, within one look to be no standstill.
_LEAST_BYTES = 1_024
# A search may be long in its URL; whoever has more to say posts it.
_MOST_HEAD_BYTES = 256 * 1024
_PHRASES = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class ConnectionLimits(NamedTuple):
    """Of one process; `slow_seconds` is what a head, or a kilobyte of a body, may take.

    `per_address` does not hold for trusted proxies.
    """

    in_all: int = 2_000
    per_address: int = 500
    slow_seconds: float = 20.0
    trusted_proxies: tuple[str, ...] = ()


class _Open:
    """The connections of a server."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.addresses = ClientAddresses(limits.trusted_proxies)
        self.in_all = 0
        self.by_address: Counter[str] = Counter()


_open: WeakKeyDictionary[Config, _Open] = WeakKeyDictionary()


class Connection(HttpToolsProtocol):
    """`app.state.connection_limits` of the application that is served are what is allowed."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        state = getattr(self.app, "state", None)
        limits = getattr(state, "connection_limits", ConnectionLimits())
        self._open = _open.setdefault(config, _Open(limits))
        self._address: str | None = None
        self._look: asyncio.TimerHandle | None = None
        self._received = 0
        self._received_before = 0
        self._unsent_before = 0
        self._said_from = 0
        self._idle_looks = 0
        self._is_in_head = True
        self._awaited: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        there = self._open
        peer = self.client[0] if self.client else UNKNOWN
        self._address = there.addresses.find({"client": (peer, 0), "headers": ()})
        there.in_all += 1
        there.by_address[self._address] += 1
        limits = there.limits
        is_crowd = there.by_address[self._address] > limits.per_address
        if there.in_all > limits.in_all or (is_crowd and not there.addresses.is_trusted(peer)):
            self._end(StoreUnavailable("too many connections are open"))
            self._forget()
            return
        self._look = self.loop.call_later(limits.slow_seconds, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._forget()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._address is None:
            return
        super().data_received(data)
        if self._received - self._said_from > _MOST_HEAD_BYTES:
            self._end(HeadTooLarge("the head of the request is too large"))

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._said_from = self._received
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (version != "1.0" and (version != "1.1" or not hosts)):
            # RFC 9112, 3.2: a proxy could have believed the other one. It is answered with 400.
            raise ValueError("one Host is needed, and HTTP/1")
        self._is_in_head = False
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def answer(scope: Any, receive: Any, _send: Any) -> None:
            await app(scope, receive, WholeAnswer(cycle))

        super()._start_asgi_task(cycle, answer)

    def on_response_complete(self) -> None:
        """As uvicorn's, but for a timer a request: `_look_again` ends what is idle for long."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._idle_looks = 0
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def on_body(self, body: bytes) -> None:
        # Else what is said around a body (a chunk's extensions, trailers) would count for nothing.
        self._said_from = self._received
        super().on_body(body)

    def _look_again(self) -> None:
        came, self._received_before = self._received - self._received_before, self._received
        cycle = self.cycle
        is_body_awaited = (
            not self._is_in_head
            and cycle is not None
            and cycle.more_body
            and not cycle.response_complete
            and not self.flow.read_paused
        )
        # What is waited for now may have begun a moment ago: late is what was waited for at
        # the look before, too. Only of the first head is it known when it could have begun.
        awaited: object = cycle if is_body_awaited else self._is_in_head and "head"
        is_first = self._is_in_head and cycle is None
        is_still = bool(awaited) and awaited is self._awaited
        if is_first or (is_still and (self._is_in_head or came < _LEAST_BYTES)):
            self._end(TooSlow("the request does not arrive"))
        self._awaited = awaited
        self._drop_if_unread()
        self._drop_if_idle(came)
        self._look = self.loop.call_later(self._open.limits.slow_seconds, self._look_again)

    def _drop_if_unread(self) -> None:
        """Let go of a client that does not read what it asked for."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent_before:
            self.transport.abort()
        self._unsent_before = unsent

    def _drop_if_idle(self, came: int) -> None:
        """Let go of a client that asks nothing more."""
        is_idle = not came and self.cycle is not None and self.cycle.response_complete
        self._idle_looks = self._idle_looks + 1 if is_idle else 0
        if self._idle_looks * self._open.limits.slow_seconds >= self.timeout_keep_alive:
            self.transport.close()

    def _end(self, error: FhirError) -> None:
        """Tell why, if nothing was told yet, and hang up."""
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            response = error_handler.respond(error)
            status = response.status_code
            head = [f"HTTP/1.1 {status} {_PHRASES[status]}".encode()]
            head += [b"%b: %b" % pair for pair in response.raw_headers]
            head.append(b"connection: close")
            self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()

    def _forget(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._address is None:
            return
        there, address = self._open, self._address
        self._address = None
        there.in_all -= 1
        there.by_address[address] -= 1
        if not there.by_address[address]:
            del there.by_address[address]
