"""Byte ranges: the part that is asked for, of any file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.rest.byte_range import parse_range


@given(st.binary(max_size=50), st.integers(0, 60), st.one_of(st.none(), st.integers(0, 60)))
def test_a_range_is_what_a_slice_is(data, first, last):
    found = parse_range(f"bytes={first}-{'' if last is None else last}", len(data))
    if last is not None and last < first:
        assert found is None
        return
    expected = data[first:] if last is None else data[first : last + 1]
    assert data[found.start : found.end] == expected
    assert found.length == len(expected)


@given(st.binary(max_size=50), st.integers(1, 60))
def test_a_suffix_is_the_end(data, count):
    found = parse_range(f"bytes=-{count}", len(data))
    assert data[found.start : found.end] == data[-count:]


@pytest.mark.parametrize(
    "header", [None, "", "bytes=", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=x-", "1-2"]
)
def test_what_is_no_single_range_is_none(header):
    assert parse_range(header, 10) is None
