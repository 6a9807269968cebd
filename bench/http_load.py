"""A load of HTTP requests over kept connections, cheap enough not to be the limit."""

import asyncio
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

# Seconds behind its end after which a load that does not end is an error.
PATIENCE = 120

FHIR_JSON = "application/fhir+json"

Script = Generator[bytes, bytes, None]
"""What one connection does: it yields a request, and is sent the body of the answer."""


class Address(NamedTuple):
    """A server's base URL in the parts that a connection needs; `headers` go with each request."""

    host: str
    port: int
    path: str
    is_secure: bool = False
    headers: str = ""

    @classmethod
    def parse(cls, url: str, headers: tuple[str, ...] = ()) -> Self:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is no http or https URL")
        is_secure = parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        lines = "".join(f"{header}\r\n" for header in headers)
        return cls(parts.hostname, port, parts.path.rstrip("/"), is_secure, lines)

    @property
    def url(self) -> str:
        return f"http{'s' * self.is_secure}://{self.host}:{self.port}{self.path}"

    def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = FHIR_JSON
    ) -> bytes:
        """One HTTP/1.1 request as bytes; `path` follows the base, or is absolute with a `/`."""
        target = path if path.startswith("/") else f"{self.path}/{path}".rstrip("/") or "/"
        head = f"{method} {target} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{self.headers}"
        head += f"Accept: {FHIR_JSON}\r\n"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body


@dataclass
class Measured:
    """What a run of requests came to; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def check(self, *expected: int) -> "Measured":
        """Raise unless every status is one of `expected`: a fast error is no result."""
        wrong = {status: n for status, n in self.statuses.items() if status not in expected}
        if wrong or not self.latencies:
            said = self.body[:300].decode(errors="replace")
            raise UnexpectedAnswer(f"unexpected statuses {wrong}: {said}")
        return self


class UnexpectedAnswer(Exception):
    """The server answered something else than the load asks for."""


def reason(error: Exception) -> str:
    """Why a load came to nothing."""
    return str(error) or f"it took longer than {PATIENCE} s ({type(error).__name__})"


def in_turn(requests: Iterator[bytes]) -> Callable[[], Script]:
    """Connections that take the next of these requests, whichever is free."""

    def script() -> Script:
        for request in requests:  # noqa: UP028 - an iterator cannot be sent the answers
            yield request

    return script


class _Link(msgspec.Struct):
    relation: str
    url: str


class _Bundle(msgspec.Struct):
    link: list[_Link] = []


_BUNDLE = msgspec.json.Decoder(_Bundle)


def page_by_page(address: Address, first: bytes) -> Callable[[], Script]:
    """Connections that each follow the links to the next page, and begin anew at the end."""

    def script() -> Script:
        request = first
        while True:
            links = _BUNDLE.decode((yield request)).link
            following = next((link.url for link in links if link.relation == "next"), None)
            request = first if following is None else address.request("GET", _target(following))

    return script


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


class _Line:
    """One of the connections at once; the server may close it between two requests."""

    def __init__(self, address: Address, script: Script, measured: Measured, until: float) -> None:
        self._address = address
        self._script = script
        self._measured = measured
        self._until = until
        self._loop = asyncio.get_running_loop()
        self._request = next(script, None)
        self.done: asyncio.Future[None] = self._loop.create_future()

    async def connect(self) -> None:
        context = ssl.create_default_context() if self._address.is_secure else None
        try:
            await self._loop.create_connection(
                lambda: _Connection(self), self._address.host, self._address.port, ssl=context
            )
        except OSError as error:
            self.fail(error)

    def next_request(self) -> bytes | None:
        return None if time.perf_counter() >= self._until else self._request

    def answered(self, status: int, body: bytes, seconds: float) -> None:
        measured = self._measured
        measured.latencies.append(seconds)
        measured.statuses[status] = measured.statuses.get(status, 0) + 1
        if not measured.body or status >= 400:
            measured.body = body
        try:
            self._request = self._script.send(body)
        except StopIteration:
            self._request = None

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def reconnect(self) -> None:
        task = self._loop.create_task(self.connect())
        # Kept until it is done: the loop alone would let it be collected.
        task.add_done_callback(lambda _: None)


class _Connection(asyncio.Protocol):
    def __init__(self, line: _Line) -> None:
        self._line = line
        self._chunks: list[bytes] = []
        self._started = 0.0
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports that do not say so.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        request = self._line.next_request()
        if request is None:
            self._line.finish()
            self._transport.close()
            return
        self._parser = httptools.HttpResponseParser(self)
        self._is_waiting = True
        self._started = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._line.fail(error)
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        seconds = time.perf_counter() - self._started
        self._is_waiting = False
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._line.answered(status, body, seconds)
        if self._parser.should_keep_alive():
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_waiting:
            self._line.fail(exc or ConnectionError("the server closed the connection"))
        elif self._line.next_request() is None:
            self._line.finish()
        else:
            self._line.reconnect()


def run(
    address: Address, script: Callable[[], Script], connections: int, seconds: float = 3_600
) -> Measured:
    """What comes of `connections` at once, each with a script, until it ends or time is up."""
    measured = Measured()

    async def go() -> None:
        started = time.perf_counter()
        lines = [_Line(address, script(), measured, started + seconds) for _ in range(connections)]
        for line in lines:
            await line.connect()
        async with asyncio.timeout(seconds + PATIENCE):
            await asyncio.gather(*(line.done for line in lines))
        measured.seconds = time.perf_counter() - started

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(go())
    return measured
