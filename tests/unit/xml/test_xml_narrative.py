"""Narrative goes over unchanged where it can, and never breaks out of its element."""

import pytest

from fhir_server import definitions
from fhir_server.core import resource_xml

TYPES = definitions.load_element_types()
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'


def written(div):
    patient = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
    return resource_xml.format(patient, TYPES)


def read(xml):
    return resource_xml.parse(xml, TYPES)["text"]["div"]


def test_the_source_is_kept_byte_by_byte():
    div = f"<div {XHTML}><p a='&gt;'>x&#160;\u00a0<br /><b></b><!-- c --><![CDATA[<]]></p></div>"

    xml = "\ufeff".encode() + written(div)

    assert div.encode() in xml
    assert read(xml) == div


def test_a_div_without_namespace_gets_it():
    assert read(written('<div class="a">x</div>')) == f'<div {XHTML} class="a">x</div>'


def test_names_of_html_become_characters():
    div = f"<div {XHTML}>a&nbsp;b&eacute;&lt;&notathing;</div>"
    assert f"<div {XHTML}>a\u00a0b\u00e9&lt;</div>".encode() in written(
        div.replace("&notathing;", "")
    )


def test_prefixes_from_outside_are_written_away():
    xml = (
        b'<f:Patient xmlns:f="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"><f:text>'
        b'<f:status value="empty"/><h:div xml:lang="ru"><h:p title="&quot;&#10;">"&lt;"'
        b"<h:br/></h:p></h:div></f:text></f:Patient>"
    )

    assert read(xml) == (f'<div {XHTML} xml:lang="ru"><p title="&quot;&#10;">"&lt;"<br/></p></div>')


def test_a_namespace_declared_outside_comes_along():
    xml = (
        b'<f:Patient xmlns:f="http://hl7.org/fhir" xmlns="http://www.w3.org/1999/xhtml"><f:text>'
        b"<div><p>x</p></div></f:text></f:Patient>"
    )

    assert read(xml) == f"<div {XHTML}><p>x</p></div>"


def test_an_empty_div_stays_one():
    xml = f'<Patient xmlns="http://hl7.org/fhir"><text><div {XHTML} title="a>b"/></text></Patient>'

    assert read(xml.encode()) == f'<div {XHTML} title="a&gt;b"/>'


@pytest.mark.parametrize(
    "div",
    [
        f'<div {XHTML}>x</div></text><active value="true"/><text>',
        "<div>x",
        "<div>&nope;</div>",
        '<!DOCTYPE div [<!ENTITY e "x">]><div>&e;</div>',
        '<?xml version="1.0"?><div>x</div>',
        "<p>x</p>",
        '<div xmlns="urn:other">x</div>',
        "text",
        "\x01<div/>",
    ],
)
def test_what_is_no_xhtml_becomes_text_of_a_div(div):
    back = resource_xml.parse(written(div), TYPES)

    assert list(back) == ["resourceType", "text"]
    assert list(back["text"]) == ["status", "div"]
    assert back["text"]["div"].startswith(f"<div {XHTML}>")
    assert back["text"]["div"].count("<") == 2
