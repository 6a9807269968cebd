"""The lines of an export: every version has one, and every line one version."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import resource_json
from fhir_server.core.archive import (
    FORMAT,
    FORMAT_VERSION,
    Chain,
    Manifest,
    format_line,
    format_manifest,
    is_line,
    parse_body,
    parse_line,
    parse_manifest,
)
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version, deletion, next_version
from fhir_server.errors import InvalidResource

KEY = ResourceKey("Patient", "p")
NOW = datetime(2024, 5, 1, 12, 0, 0, 7_000, tzinfo=UTC)
FIRST = next_version(None, KEY, {"resourceType": "Patient", "active": True}, NOW)[0]._replace(
    sequence=1
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
elements = st.dictionaries(
    st.text("abcdef", min_size=1),
    st.recursive(
        texts | st.integers(-(2**60), 2**60) | st.booleans() | st.decimals(-1_000, 1_000, places=3),
        lambda inner: st.lists(inner, max_size=3),
    ),
)


@st.composite
def versions(draw):
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=draw(st.integers(0, 2**42)))
    key = ResourceKey("Patient", draw(st.text("abcXYZ019-.", min_size=1, max_size=64)))
    version, _ = next_version(None, key, {"resourceType": "Patient", **draw(elements)}, when)
    if draw(st.booleans()):
        version = deletion(version, when)
    return version._replace(sequence=draw(st.integers(1, 2**62)))


@given(versions())
def test_a_version_comes_back_from_its_line_byte_for_byte(version):
    line = format_line(version)
    assert b"\n" not in line
    assert is_line(line)
    assert parse_line(line) == version
    restored = parse_body(parse_line(line))
    assert (restored.resource is None) == version.is_deletion


@given(st.binary(max_size=200))
def test_what_is_no_line_is_refused(text):
    with pytest.raises(InvalidResource):
        parse_line(text)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b'"sequence":1,', b'"sequence":0,'),
        (b'"sequence":1,', b'"sequence":1, '),
        (b'"versionId":1,"l', b'"versionId":-1,"l'),
        (b'"id":"p","versionId"', b'"id":"p/q","versionId"'),
        (b"12:00:00.007Z", b"12:00:00.007"),
        (b"12:00:00.007Z", b"15:00:00.007+03:00"),
        (b'"create"', b'"delete"'),
        (b'"create"', b'"creation"'),
        (b'"resourceType":"Patient","id"', b'"resourceType":"Patient","more":1,"id"'),
    ],
)
def test_a_line_that_says_anything_else_is_refused(part, other):
    line = format_line(FIRST)
    assert line.count(part) > 0
    with pytest.raises(InvalidResource):
        parse_line(line.replace(part, other, 1))


def test_a_body_is_that_of_its_version():
    assert parse_body(FIRST).resource == FIRST.resource()
    for wrong in (
        FIRST._replace(version_id=2),
        FIRST._replace(key=ResourceKey("Patient", "q")),
        FIRST._replace(key=ResourceKey("Device", "p")),
        FIRST._replace(last_updated=NOW + timedelta(milliseconds=1)),
        FIRST._replace(body=b"{}"),
        FIRST._replace(body=b"no json"),
    ):
        with pytest.raises(InvalidResource):
            parse_body(wrong)


def test_a_body_with_a_line_break_is_never_written():
    body = resource_json.format(FIRST.resource()).replace(b",", b",\n", 1)
    with pytest.raises(ValueError, match="line break"):
        format_line(FIRST._replace(body=body))


def digest(*lines):
    chain = Chain()
    for line in lines:
        chain.add(line)
    return chain.digest


@given(st.lists(st.binary(max_size=5), max_size=6), st.lists(st.binary(max_size=5), max_size=6))
def test_the_digest_tells_lines_apart_by_content_order_and_number(lines, others):
    assert (digest(*lines) == digest(*others)) == (lines == others)


def test_a_manifest_comes_back_and_a_newer_ones_format_is_refused():
    manifest = Manifest(FORMAT, FORMAT_VERSION, "f", 3, "00", "x", {"Patient": {"create": 3}}, 2)
    text = format_manifest(manifest)
    assert parse_manifest(text) == manifest
    for wrong in (b"{}", b"no json", text.replace(b'"format_version": 1', b'"format_version": 2')):
        with pytest.raises(InvalidResource):
            parse_manifest(wrong)


def test_version_is_a_tuple_of_what_a_line_holds():
    # A new field of Version has to travel too.
    assert Version._fields == (
        "key", "version_id", "last_updated", "interaction", "body", "sequence",
    )  # fmt: skip
