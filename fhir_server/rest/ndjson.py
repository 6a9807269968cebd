"""NDJSON bodies: lines in portions as they arrive, so that no upload is held whole.

https://github.com/ndjson/ndjson-spec
"""

import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import NamedTuple

from starlette.types import Receive

from fhir_server.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from fhir_server.rest.body import ClientDisconnectedError

_GZIP = 16 + zlib.MAX_WBITS
_INFLATED_AT_ONCE = 256 * 1024
_BOM = b"\xef\xbb\xbf"

PORTION_LINES = 500
PORTION_BYTES = 1024 * 1024


class Line(NamedTuple):
    """`number` counts from 0, blank lines included; `text` has no blanks around it."""

    number: int
    text: bytes


async def read_portions(
    receive: Receive, headers: Mapping[str, str], longest_line: int
) -> AsyncIterator[list[Line]]:
    """The lines that are not blank, some hundred at a time.

    Raises:
        TooLarge: a line is longer than `longest_line` bytes.
        InvalidRequest: no gzip, though it says so, or cut short.
        UnsupportedMediaType: another content encoding.
        ClientDisconnectedError: the client went away; its last line may be half a line.
    """
    lines = _LineSplitter(longest_line)
    portion: list[Line] = []
    size = 0
    async for data in _inflated(_received(receive), headers):
        for line in lines.split(data):
            portion.append(line)
            size += len(line.text)
            if len(portion) >= PORTION_LINES or size >= PORTION_BYTES:
                yield portion
                portion, size = [], 0
    portion.extend(lines.rest())
    if portion:
        yield portion


class _LineSplitter:
    def __init__(self, longest_line: int) -> None:
        self._longest = longest_line
        self._number = 0
        self._begun: list[bytes] = []
        self._begun_size = 0

    def split(self, data: bytes) -> Iterator[Line]:
        """The lines that `data` completes."""
        first, *others = data.split(b"\n")
        self._begin(first)
        for following in others:
            yield from self.rest()
            self._begin(following)

    def rest(self) -> Iterator[Line]:
        """The line begun so far, as a whole one."""
        text = b"".join(self._begun)
        self._begun, self._begun_size = [], 0
        if self._number == 0:
            text = text.removeprefix(_BOM)
        if text := text.strip(b" \t\r"):
            yield Line(self._number, text)
        self._number += 1

    def _begin(self, part: bytes) -> None:
        self._begun_size += len(part)
        if self._begun_size > self._longest:
            raise TooLarge(
                f"line {self._number} is larger than {self._longest} bytes; "
                "those before it are kept"
            )
        self._begun.append(part)


async def _received(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        if body := message.get("body", b""):
            yield body
        more = message.get("more_body", False)


async def _inflated(body: AsyncIterator[bytes], headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        async for data in body:
            yield data
    elif encoding in ("gzip", "x-gzip"):
        inflater = _Inflater()
        async for data in body:
            for inflated in inflater.inflate(data):
                yield inflated
        inflater.finish()
    else:
        raise UnsupportedMediaType("Content-Encoding: gzip or none")


class _Inflater:
    """Gzip members one after the other, never more than a piece inflated at once."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._is_begun = False

    def inflate(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                self._is_begun = True
                inflated = self._stream.decompress(data, _INFLATED_AT_ONCE)
                data = self._stream.unconsumed_tail
                if self._stream.eof:
                    data = self._stream.unused_data
                    self._stream = zlib.decompressobj(_GZIP)
                    self._is_begun = False
                if inflated:
                    yield inflated
        except zlib.error:
            raise InvalidRequest("the body is no gzip; lines before the fault are kept") from None

    def finish(self) -> None:
        if self._is_begun:
            raise InvalidRequest("the gzip body is cut short; lines before the cut are kept")
