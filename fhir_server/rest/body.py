"""Request bodies: read within their limit, gunzipped within it too.

A body is counted while it streams in, so that none is held that is over the limit.
"""

import zlib
from collections.abc import Mapping

from starlette.types import Receive

from fhir_server.errors import InvalidRequest, TooLarge, UnsupportedMediaType

_GZIP = 16 + zlib.MAX_WBITS


class ClientDisconnectedError(Exception):
    """The client went away before its request was read; there is nobody to answer."""


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
    """The whole body, decoded.

    Raises:
        TooLarge: over `limit` bytes, on the wire or gunzipped.
        InvalidRequest: no gzip, though it says so.
        UnsupportedMediaType: another content encoding.
        ClientDisconnectedError: the client went away.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaType("Content-Encoding: gzip or none")
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _read_rest(receive, body, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body if encoding == "identity" else gunzip(body, limit)


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    body = bytearray(first)
    more = True
    while more:
        if len(body) > limit:
            raise _too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def gunzip(body: bytes, limit: int) -> bytes:
    """`body` inflated, its members one after the other.

    Raises:
        TooLarge: over `limit` bytes; no more than that was ever inflated.
        InvalidRequest: broken, or cut short.
    """
    inflated = bytearray()
    rest = body
    try:
        while rest:
            stream = zlib.decompressobj(_GZIP)
            inflated += stream.decompress(rest, limit + 1 - len(inflated))
            if len(inflated) > limit:
                raise _too_large(limit)
            if not stream.eof:
                raise InvalidRequest("the gzip body is cut short")
            rest = stream.unused_data
    except zlib.error:
        raise InvalidRequest("the body is no gzip") from None
    return bytes(inflated)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes")
