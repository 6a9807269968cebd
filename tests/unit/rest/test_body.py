"""Request bodies, limited and gunzipped."""

import asyncio
import gzip

import pytest

from fhir_server.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from fhir_server.rest.body import ClientDisconnectedError, gunzip, read_body


def read(parts, headers=None, limit=100):
    messages = [
        {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
        for i, part in enumerate(parts)
    ]
    taken = iter([*messages, {"type": "http.disconnect"}])

    async def receive():
        return next(taken)

    return asyncio.run(read_body(receive, headers or {}, limit))


def test_parts_are_joined():
    assert read([b"a", b"b", b""]) == b"ab"


def test_body_at_the_limit_is_read_and_over_it_refused():
    assert read([b"x" * 60, b"x" * 40]) == b"x" * 100
    with pytest.raises(TooLarge):
        read([b"x" * 60, b"x" * 41])
    with pytest.raises(TooLarge):
        read([b"x" * 101])


def test_declared_length_is_refused_before_anything_is_read():
    with pytest.raises(TooLarge):
        read([], {"content-length": "101"})


def test_reading_ends_as_soon_as_the_limit_is_passed():
    endless = [b"x" * 60] * 1_000
    messages = iter({"type": "http.request", "body": p, "more_body": True} for p in endless)
    taken = 0

    async def receive():
        nonlocal taken
        taken += 1
        return next(messages)

    with pytest.raises(TooLarge):
        asyncio.run(read_body(receive, {}, 100))
    assert taken == 2


def test_client_that_goes_away_is_noticed():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnectedError):
        asyncio.run(read_body(receive, {}, 100))


def test_gzip_is_inflated_also_in_members():
    body = gzip.compress(b"ab", mtime=0) + gzip.compress(b"cd", mtime=0)
    assert read([body[:9], body[9:]], {"content-encoding": "gzip"}) == b"abcd"


def test_bomb_is_refused_at_the_limit():
    with pytest.raises(TooLarge):
        gunzip(gzip.compress(b"0" * 10_000_000, mtime=0), 1_000)
    assert gunzip(gzip.compress(b"0" * 1_000, mtime=0), 1_000) == b"0" * 1_000


def test_many_small_members_count_together():
    with pytest.raises(TooLarge):
        gunzip(gzip.compress(b"0" * 600, mtime=0) * 2, 1_000)


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"abc", mtime=0)[:-4], b"\x1f\x8b"])
def test_broken_gzip_is_refused(body):
    with pytest.raises(InvalidRequest):
        gunzip(body, 1_000)


def test_other_encoding_is_refused():
    with pytest.raises(UnsupportedMediaType):
        read([b"x"], {"content-encoding": "br"})
