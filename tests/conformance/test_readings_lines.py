"""NDJSON arrives in pieces of any size; lines come out whole, in portions."""

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from fhir_server.rest.body import ClientDisconnectedError
from fhir_server.rest.ndjson import PORTION_LINES, Line, read_portions


def read(pieces, headers=(), longest=1_000, is_cut=False):
    """The portions that a body in these pieces gives."""

    async def run():
        messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
        if is_cut:
            messages.append({"type": "http.disconnect"})
        else:
            messages.append({"type": "http.request", "body": b"", "more_body": False})
        waiting = iter(messages)

        async def receive():
            return next(waiting)

        return [portion async for portion in read_portions(receive, dict(headers), longest)]

    return asyncio.run(run())


def lines(pieces, headers=(), **more):
    return [line for portion in read(pieces, headers, **more) for line in portion]


@given(
    st.lists(
        st.sampled_from([b"{}", b"\n", b"\r\n", b"1", b" ", b'{"a":"\xd0\xb4"}']), max_size=30
    ),
    st.integers(1, 7),
    st.booleans(),
)
def test_where_the_network_cuts_does_not_matter(parts, size, is_gzip):
    body = b"".join(parts)
    expected = [
        Line(number, text.strip(b" \t\r"))
        for number, text in enumerate(body.split(b"\n"))
        if text.strip(b" \t\r")
    ]
    sent = gzip.compress(body) if is_gzip else body
    pieces = [sent[i : i + size] for i in range(0, len(sent), size)]
    headers = {"content-encoding": "gzip"} if is_gzip else {}
    assert lines(pieces, headers) == expected


def test_a_line_keeps_its_number_when_lines_before_it_are_blank():
    assert lines([b"\n\n{}\n"]) == [Line(2, b"{}")]


def test_the_last_line_needs_no_newline():
    assert lines([b"1\n2"]) == [Line(0, b"1"), Line(1, b"2")]


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    assert lines([b"\xef\xbb", b"\xbf{}\n\xef\xbb\xbf{}"]) == [
        Line(0, b"{}"),
        Line(1, b"\xef\xbb\xbf{}"),
    ]


def test_lines_come_in_bounded_portions():
    portions = read([b"1\n" * (2 * PORTION_LINES + 1)])
    assert [len(portion) for portion in portions] == [PORTION_LINES, PORTION_LINES, 1]


def test_long_lines_make_smaller_portions():
    line = b"x" * 400_000 + b"\n"
    assert [len(p) for p in read([line] * 7, longest=500_000)] == [3, 3, 1]


def test_a_line_over_the_limit_is_refused_before_it_is_whole():
    with pytest.raises(TooLarge, match="line 1 "):
        lines([b"1\n", b"x" * 600, b"x" * 600], longest=1_000)


def test_a_gzip_bomb_is_refused_without_being_inflated():
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = bomb.compress(b"x" * 50_000_000) + bomb.flush()
    with pytest.raises(TooLarge):
        lines([body], {"content-encoding": "gzip"}, longest=300_000)


def test_gzip_members_one_after_the_other_are_one_body():
    body = gzip.compress(b"1\n2") + gzip.compress(b"3\n")
    assert lines([body], {"content-encoding": "gzip"}) == [Line(0, b"1"), Line(1, b"23")]


@pytest.mark.parametrize("cut", [1, 8, 12])
def test_gzip_cut_short_is_refused(cut):
    body = gzip.compress(b"1\n2\n")[:-cut]
    with pytest.raises(InvalidRequest, match="cut short"):
        lines([body], {"content-encoding": "gzip"})


def test_what_is_no_gzip_is_refused():
    with pytest.raises(InvalidRequest, match="no gzip"):
        lines([b"1\n2\n" * 10], {"content-encoding": "gzip"})


def test_another_encoding_is_refused():
    with pytest.raises(UnsupportedMediaType):
        lines([b"1"], {"content-encoding": "br"})


def test_half_a_line_of_a_client_that_went_away_is_no_line():
    with pytest.raises(ClientDisconnectedError):
        lines([b"1\n2"], is_cut=True)
