"""Formats: https://hl7.org/fhir/R4/http.html#mime-type."""

import pytest

from fhir_server.errors import NotAcceptable, UnsupportedMediaType
from fhir_server.rest.negotiation import (
    body_media_type,
    choose_media_type,
    is_form,
    is_xml,
    patch_media_type,
)

FHIR = "application/fhir+json"
XML = "application/fhir+xml"


@pytest.mark.parametrize(
    ("accept", "asked", "expected"),
    [
        (None, None, FHIR),
        ("", None, FHIR),
        ("*/*", None, FHIR),
        ("application/*", None, FHIR),
        ("application/json", None, "application/json"),
        ("Application/FHIR+JSON; charset=utf-8", None, FHIR),
        ("application/fhir+json; fhirVersion=4.0", None, FHIR),
        ("text/html,application/xhtml+xml,*/*;q=0.8", None, FHIR),
        ("application/fhir+xml;q=0.9, application/json;q=0.5", None, XML),
        ("application/fhir+xml;q=0.5, application/json;q=0.9", None, "application/json"),
        ("application/fhir+xml", None, XML),
        ("text/xml", None, "text/xml"),
        ("application/xml+fhir", None, XML),
        ("application/fhir+json;q=0, application/*", None, XML),
        ("application/json", "xml", XML),
        ("*/*", "application/fhir xml", XML),
        ("application/json;q=0.5, application/fhir+json", None, FHIR),
        ("application/fhir+xml", "json", FHIR),
        ("text/html", "application/fhir json", FHIR),
        (None, "application/fhir+json", FHIR),
        (None, "application/json", "application/json"),
    ],
)
def test_format_is_chosen(accept, asked, expected):
    assert choose_media_type(accept, asked) == expected


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        ("text/html", None),
        ("application/json;q=0", None),
        ("application/json;q=nan", None),
        ("application/fhir+json;q=0, application/fhir+xml;q=0, application/*", None),
        ("application/fhir+json; fhirVersion=3.0", None),
        ("application/fhir+xml; fhirVersion=5.0", None),
        ("application/json", "turtle"),
        ("*/*", "ttl"),
        ("*/*", "application/fhir+json; fhirVersion=5.0"),
    ],
)
def test_format_that_is_not_written_is_refused(accept, asked):
    with pytest.raises(NotAcceptable):
        choose_media_type(accept, asked)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, XML),
        ("*/*", XML),
        ("text/*", "text/xml"),
        ("application/json", "application/json"),
        ("application/fhir+xml;q=0, */*", FHIR),
    ],
)
def test_who_takes_anything_is_answered_in_the_format_of_the_body(accept, expected):
    assert choose_media_type(accept, None, "application/xml; charset=utf-8") == expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (FHIR, FHIR),
        ("application/json", FHIR),
        ("text/json", FHIR),
        ("application/fhir+json; charset=UTF-8", FHIR),
        ('application/json;charset="utf-8"', FHIR),
        ("application/fhir+json; fhirVersion=4.0", FHIR),
        (XML, XML),
        ("application/xml", XML),
        ("text/xml; charset=utf-8", XML),
        ("application/xml+fhir", XML),
    ],
)
def test_json_and_xml_are_read(content_type, expected):
    assert body_media_type(content_type) == expected
    # Of a patch the plain name says only that it is JSON.
    is_plain = content_type.startswith("application/json")
    assert patch_media_type(content_type) == ("application/json" if is_plain else expected)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "application/fhir+xml; charset=windows-1251",
        "application/x-www-form-urlencoded",
        "application/fhir+json; fhirVersion=3.0",
        "application/xml-patch+xml",
    ],
)
def test_what_is_neither_is_refused(content_type):
    for find in (body_media_type, patch_media_type):
        with pytest.raises(UnsupportedMediaType):
            find(content_type)


@pytest.mark.parametrize(
    "content_type", ["application/json-patch+json", "application/merge-patch+json; charset=utf-8"]
)
def test_patches_of_json_are_no_resources(content_type):
    assert patch_media_type(content_type) == content_type.partition(";")[0]
    with pytest.raises(UnsupportedMediaType):
        body_media_type(content_type)


def test_xml_is_known_by_its_type():
    assert is_xml("text/xml")
    assert not is_xml(FHIR)


def test_form_is_known_by_its_type():
    assert is_form("application/x-www-form-urlencoded; charset=utf-8")
    assert not is_form("application/json")
    assert not is_form(None)
