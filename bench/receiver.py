"""`python -m bench.receiver PORT`: an endpoint that takes notifications and counts them.

GET /counts says how many came since POST /reset, when the first and the last one did, and
how long after its `meta.lastUpdated` each arrived.
"""

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from typing import cast

import httptools
import uvloop

_STORED = re.compile(rb'"lastUpdated"\s*:\s*"([^"]+)"')


class _Counts:
    def __init__(self) -> None:
        self.arrived: list[float] = []
        self.delays: list[float] = []

    def take(self, body: bytes) -> None:
        at = time.time()
        self.arrived.append(at)
        stored = _STORED.search(body)
        if stored:
            when = datetime.fromisoformat(stored[1].decode("ascii"))
            self.delays.append(at - when.timestamp())

    def as_json(self) -> bytes:
        ordered = sorted(self.delays)
        shares = {
            f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
            for share in (50, 95, 99)
            if ordered
        }
        ends = {"first": self.arrived[0], "last": self.arrived[-1]} if self.arrived else {}
        return json.dumps({"received": len(self.arrived), **ends, **shares}).encode()


class _Endpoint(asyncio.Protocol):
    def __init__(self, counts: _Counts) -> None:
        self._counts = counts
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._chunks: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        body, answer = b"".join(self._chunks), b"{}"
        self._chunks.clear()
        if self._path == b"/counts":
            answer = self._counts.as_json()
        elif self._path == b"/reset":
            self._counts.__init__()  # type: ignore[misc]
        else:
            self._counts.take(body)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % len(answer) + answer)


async def main(port: int) -> None:
    counts = _Counts()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Endpoint(counts), "127.0.0.1", port
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main(int(sys.argv[1])))
        except KeyboardInterrupt:
            sys.exit(0)
