"""Primitives: two engines read the same pattern, and dates are real ones."""

from datetime import date

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.validation.primitive import PRIMITIVES

TEXTS = [p for p in PRIMITIVES.values() if p.pattern]
SCHEMAS = {
    p.name: jsonschema_rs.Draft4Validator(p.schema(), pattern_options=jsonschema_rs.RegexOptions())
    for p in PRIMITIVES.values()
}
ALPHABET = st.sampled_from(
    [*"0123456789abcxyzABCTZ+-:./=_# \t\n\r\x00\x1f\x7f\xa0\u2028é😀", "urn:"]
)


@pytest.mark.parametrize("primitive", TEXTS, ids=lambda p: p.name)
@given(text=st.lists(ALPHABET, max_size=30).map("".join))
def test_both_engines_agree_on_any_text(primitive, text):
    assert SCHEMAS[primitive.name].is_valid(text) == primitive.is_legal(text)


@pytest.mark.parametrize(
    # Of base64 and XHTML the patterns are not all there is to it.
    "primitive",
    [p for p in TEXTS if p.name not in ("base64Binary", "xhtml")],
    ids=lambda p: p.name,
)
@given(data=st.data())
def test_both_engines_agree_on_what_the_pattern_makes(primitive, data):
    text = data.draw(st.from_regex(primitive.pattern, fullmatch=True))

    assert SCHEMAS[primitive.name].is_valid(text)
    assert primitive.is_legal(text)


@given(
    year=st.integers(1, 9999), month=st.integers(0, 13), day=st.integers(0, 32), rest=st.booleans()
)
def test_a_date_is_legal_when_the_calendar_has_it(year, month, day, rest):
    text = f"{year:04d}-{month:02d}-{day:02d}"
    try:
        date(year, month, day)
    except ValueError:
        is_real = False
    else:
        is_real = True
    kind, text = ("instant", f"{text}T00:00:00Z") if rest else ("date", text)

    assert PRIMITIVES[kind].is_legal(text) == is_real
    assert SCHEMAS[kind].is_valid(text) == is_real


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("dateTime", "2016-12-31T23:59:60Z"),
        ("dateTime", "2024-05-02T10:12:00.123456789+14:00"),
        ("date", "2024"),
        ("date", "0001-01"),
        ("date", "2000-02-29"),
        ("time", "00:00:00.5"),
        ("base64Binary", "QUJD\r\nREVG"),
        ("base64Binary", "QQ=="),
        ("oid", "urn:oid:1.2.643.5.1"),
        ("code", "a b"),
        ("markdown", "\n# x"),
    ],
)
def test_a_legal_text_is_accepted(kind, text):
    assert PRIMITIVES[kind].is_legal(text)
    assert SCHEMAS[kind].is_valid(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("date", "1900-02-29"),
        ("date", "0000"),
        ("dateTime", "2024-05-02T10:12:61Z"),
        ("dateTime", "2024-05-02T10:12:00+14:01"),
        ("dateTime", "2024-05T10:12:00Z"),
        ("instant", "2024-05-02T10:12:00"),
        ("time", "10:12"),
        ("base64Binary", "QUJ"),
        ("base64Binary", "Q==="),
        ("oid", "1.2.3"),
        ("uuid", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520"),
        ("code", "a  b"),
        ("code", " "),
        ("string", ""),
        ("uri", "a b"),
        ("xhtml", "<p>x</p>"),
    ],
)
def test_an_illegal_text_is_refused(kind, text):
    assert not PRIMITIVES[kind].is_legal(text)
    assert not SCHEMAS[kind].is_valid(text)
