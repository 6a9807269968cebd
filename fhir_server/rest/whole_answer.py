"""WholeAnswer: an answer that is whole goes out in one piece, head and body together.

uvicorn writes an answer message by message, and looks at each header by itself: a seventh of
what a request costs the event loop. Nearly all of our answers are one head and one body.
Those are written here; all others are left to uvicorn, which also says what is wrong
with a message. https://asgi.readthedocs.io/en/latest/specs/www.html#response-start-send-event
"""

import re

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

# A head that holds one could end before its end.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Below it, copying a body behind its head costs less than a packet more.
_APART_FROM_BYTES = 64 * 1024
_BODILESS = frozenset({204, 304})


class WholeAnswer:
    """The `send` of one request."""

    __slots__ = ("_cycle", "_head")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head: Message | None = None

    async def __call__(self, message: Message) -> None:
        cycle = self._cycle
        if cycle.response_started:
            await cycle.send(message)  # type: ignore[arg-type]
        elif self._head is None:
            if message["type"] == "http.response.start":
                # What is not sent yet may still be replaced: ASGI has it so.
                self._head = message
            else:
                await cycle.send(message)  # type: ignore[arg-type]
        elif not self._is_written(self._head, message):
            await cycle.send(self._head)  # type: ignore[arg-type]
            await cycle.send(message)  # type: ignore[arg-type]

    def _is_written(self, head: Message, message: Message) -> bool:
        """Write both, if there is nothing about them but a head and all of its body."""
        cycle = self._cycle
        status = head["status"]
        if (
            message["type"] != "http.response.body"
            or message.get("more_body", False)
            or cycle.disconnected
            or not cycle.keep_alive
            or cycle.flow.write_paused
            or cycle.access_log
            or status not in STATUS_LINE
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        body: bytes = message.get("body", b"")
        headers: list[tuple[bytes, bytes]] = [*cycle.default_headers, *head["headers"]]
        parts = [STATUS_LINE[status]]
        length = None
        for name, value in headers:
            if name == b"content-length":
                length = value
            elif name in (b"connection", b"transfer-encoding"):
                return False
            parts += (name, b": ", value, b"\r\n")
        if length is None:
            if body or status not in _BODILESS:
                return False
        elif length != b"%d" % len(body):
            return False
        parts.append(b"\r\n")
        text = b"".join(parts)
        if (
            text.count(b"\n") != len(headers) + 2
            or text.count(b"\r") != len(headers) + 2
            or _CONTROL.search(text)
        ):
            return False
        if len(body) < _APART_FROM_BYTES:
            cycle.transport.write(text + body)
        else:
            cycle.transport.write(text)
            cycle.transport.write(body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        cycle.on_response()
        return True
