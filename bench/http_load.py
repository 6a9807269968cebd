"""A load of HTTP requests over kept connections, cheap enough not to be the limit."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import uvloop

# Seconds after which a load that does not end is an error.
PATIENCE = 900


@dataclass
class Load:
    """What a run of requests came to; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    bytes_received: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def check(self, *expected: int) -> "Load":
        """Raise unless every status is one of `expected`: a fast error is no result."""
        wrong = {status: n for status, n in self.statuses.items() if status not in expected}
        if wrong:
            raise RuntimeError(f"unexpected statuses: {wrong}")
        return self


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], load: Load, done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._load = load
        self._done = done
        self._buffer = bytearray()
        self._needed = -1
        self._status = 0
        self._started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports that do not say so.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._started = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._needed < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            self._status = int(head[9:12])
            at = head.find(b"content-length:")
            if at < 0:
                raise RuntimeError("a response without Content-Length")
            self._needed = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= self._needed:
            self._load.latencies.append(time.perf_counter() - self._started)
            self._load.statuses[self._status] = self._load.statuses.get(self._status, 0) + 1
            self._load.bytes_received += self._needed
            self._buffer.clear()
            self._needed = -1
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))


def request(
    method: str, path: str, body: bytes = b"", content_type: str = "application/fhir+json"
) -> bytes:
    """One HTTP/1.1 request as bytes."""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n"
    if body:
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run(port: int, requests: Iterator[bytes], connections: int) -> Load:
    """Send `requests` over `connections` at once until they are used up."""
    load = Load()

    async def go() -> None:
        loop = asyncio.get_running_loop()
        done = [loop.create_future() for _ in range(connections)]
        started = time.perf_counter()
        for future in done:
            await loop.create_connection(
                lambda future=future: _Connection(requests, load, future), "127.0.0.1", port
            )
        await asyncio.wait_for(asyncio.gather(*done), PATIENCE)
        load.seconds = time.perf_counter() - started

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(go())
    return load
