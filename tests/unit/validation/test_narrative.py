"""A narrative is formatted text: whatever acts, loads or hides is refused with its path."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.validation.narrative import is_harmless
from fhir_server.core.validation.primitive import PRIMITIVES

XMLNS = 'xmlns="http://www.w3.org/1999/xhtml"'

HARMFUL = [
    "<script>alert(1)</script>",
    "<SCRIPT>alert(1)</SCRIPT>",
    '<p onclick="x()">x</p>',
    '<p ONCLICK="x()">x</p>',
    '<img src="x" onerror="x()"/>',
    '<a href="javascript:x()">x</a>',
    '<a href=" java&#9;script:x()">x</a>',
    '<a href="&#106;avascript:x()">x</a>',
    '<a href="JaVaScRiPt:x()">x</a>',
    '<a href="vbscript:x()">x</a>',
    '<a href="data:text/html,x">x</a>',
    '<a href="//evil.example/x">x</a>',
    '<img src="https://evil.example/pixel.gif"/>',
    '<img src="//evil.example/pixel.gif"/>',
    '<img src="data:image/svg+xml;base64,AAAA"/>',
    '<img src="\\\\evil.example/x"/>',
    '<p style="background: url(https://evil.example)">x</p>',
    '<p style="background: u\\72l(https://evil.example)">x</p>',
    '<p style="width: expression(x())">x</p>',
    '<p style="background:ur/**/l(x)">x</p>',
    "<p style=\"background: image-set('https://evil.example/x' 1x)\">x</p>",
    '<div style="position: fixed; inset: 0">x</div>',
    "<iframe/>",
    '<form action="https://evil.example"><p>x</p></form>',
    "<input/>",
    "<object/>",
    "<embed/>",
    '<link rel="stylesheet" href="x"/>',
    "<style>p{}</style>",
    '<meta http-equiv="refresh" content="0"/>',
    '<base href="https://evil.example/"/>',
    '<svg xmlns="http://www.w3.org/2000/svg"><p>x</p></svg>',
    '<svg:a xmlns:svg="http://www.w3.org/2000/svg">x</svg:a>',
    '<math xmlns="http://www.w3.org/1998/Math/MathML"/>',
    '<a xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="javascript:x()">x</a>',
    '<p xml:base="https://evil.example/">x</p>',
    "<?php x ?>",
    "<p>not closed",
    "<p><b>crossed</p></b>",
    "&undefined;",
    "<p>" * 200 + "</p>" * 200,
]
HARMLESS = [
    "",
    "text &amp; &nbsp;&eacute; &#8594; text",
    "<p>x</p><br/><b>x</b>",
    '<table class="grid" style="border: 1px solid; color: red"><tr><td colspan="2"/></tr></table>',
    '<a href="Patient/1">x</a><a href="#x">y</a><a href="https://hl7.org/fhir">z</a>',
    '<a href="mailto:a@b.example">x</a><a name="here"/>',
    '<img src="#picture" alt="x"/><img src="data:image/png;base64,AAAA" alt="x"/>',
    '<p xml:lang="ru" lang="ru">Пульс</p>',
    "<!-- a comment --><ul><li>x</li></ul>",
]


@pytest.mark.parametrize("inside", HARMFUL)
def test_what_acts_is_refused(inside):
    for attributes in ("", f" {XMLNS}"):
        div = f"<div{attributes}>{inside}</div>"
        assert not is_harmless(div)
        assert not PRIMITIVES["xhtml"].is_legal(div)


@pytest.mark.parametrize("inside", HARMLESS)
def test_formatted_text_is_taken(inside):
    assert PRIMITIVES["xhtml"].is_legal(f"<div {XMLNS}>{inside}</div>")


def test_an_entity_bomb_is_refused():
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><div>&b;</div>'
    assert not is_harmless(bomb)


def test_only_a_div_is_one():
    assert not is_harmless("<p>x</p>")
    assert not is_harmless('<div xmlns="urn:other">x</div>')


PARTS = ["<", ">", "/", "&", ";", "a", " ", "p", "br", "b", '"', "\n", "]", "]]>", "\uffff"]
TAGS = ["<p>", "</p>", "<b>", "</b>", "<br/>", "<script>"]


@given(st.lists(st.sampled_from(PARTS + TAGS)))
def test_what_is_harmless_at_a_look_is_harmless(parts):
    div = f"<div>{''.join(parts)}</div>"
    if re.fullmatch(PRIMITIVES["xhtml"].quick, div):
        assert is_harmless(div)
