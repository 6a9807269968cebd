"""Formats: https://hl7.org/fhir/R4/http.html#mime-type."""

import pytest

from fhir_server.errors import NotAcceptable, UnsupportedMediaType
from fhir_server.rest.negotiation import check_content_type, choose_media_type, is_form

FHIR = "application/fhir+json"


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
        ("application/fhir+xml;q=0.9, application/json;q=0.5", None, "application/json"),
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
        ("application/fhir+xml", None),
        ("text/html", None),
        ("application/json;q=0", None),
        ("application/json;q=nan", None),
        ("application/fhir+json;q=0, application/*", None),
        ("application/fhir+json; fhirVersion=3.0", None),
        ("application/json", "xml"),
        ("*/*", "ttl"),
        ("*/*", "application/fhir+json; fhirVersion=5.0"),
    ],
)
def test_format_that_is_not_written_is_refused(accept, asked):
    with pytest.raises(NotAcceptable):
        choose_media_type(accept, asked)


@pytest.mark.parametrize(
    "content_type",
    [
        FHIR,
        "application/json",
        "text/json",
        "application/fhir+json; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/fhir+json; fhirVersion=4.0",
    ],
)
def test_json_is_read(content_type):
    check_content_type(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/fhir+xml",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
        "application/fhir+json; fhirVersion=3.0",
    ],
)
def test_what_is_not_json_is_refused(content_type):
    with pytest.raises(UnsupportedMediaType):
        check_content_type(content_type)


def test_form_is_known_by_its_type():
    assert is_form("application/x-www-form-urlencoded; charset=utf-8")
    assert not is_form("application/json")
    assert not is_form(None)
