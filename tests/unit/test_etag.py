"""Entity tags: https://hl7.org/fhir/R4/http.html#versioning."""

from datetime import UTC, datetime

import pytest

from fhir_server.core import etag
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.errors import InvalidRequest

KEY = ResourceKey("Patient", "1")
THIRD = Version(KEY, 3, datetime(2024, 3, 1, tzinfo=UTC), "update", b"{}")
DELETED = THIRD._replace(interaction="delete", body=None)


@pytest.mark.parametrize("header", ['W/"3"', '"3"', "3", 'W/"1", W/"3"', '"1","3"', "*", " * "])
def test_header_that_names_the_version_matches(header):
    assert etag.parse(header).match(THIRD)


@pytest.mark.parametrize("header", ['W/"2"', '"33"', "30", '""', 'W/"abc"', '"03"'])
def test_header_that_names_another_version_does_not_match(header):
    assert not etag.parse(header).match(THIRD)


@pytest.mark.parametrize("header", ["", "   ", 'W/"3', "W/", ",", 'W/"1",,W/"2"', "a b"])
def test_header_that_is_no_list_of_tags_is_refused(header):
    with pytest.raises(InvalidRequest):
        etag.parse(header)


def test_star_is_what_exists():
    assert not etag.parse("*").match(None)
    assert not etag.parse("*").match(DELETED)


def test_a_deletion_can_be_named_by_its_version():
    assert etag.parse('W/"3"').match(DELETED)


def test_format_is_read_back():
    assert etag.parse(etag.format(3)).match(THIRD)
