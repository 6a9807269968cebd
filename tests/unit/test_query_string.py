"""Query strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import query_string
from fhir_server.errors import InvalidSearch

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(texts.filter(bool), texts), max_size=20))
def test_what_is_formatted_is_parsed_back(params):
    assert query_string.parse(query_string.format(params)) == tuple(params)


@given(st.lists(st.tuples(texts.filter(bool), texts), max_size=20))
def test_formatted_is_plain_ascii(params):
    assert query_string.format(params).isascii()
    assert " " not in query_string.format(params)


def test_repeated_parameters_keep_their_order():
    assert query_string.parse("date=ge1&a=&date=lt2") == (
        ("date", "ge1"),
        ("a", ""),
        ("date", "lt2"),
    )


@pytest.mark.parametrize("text", ["a=%ff", "a=%c3%28", "%80=1"])
def test_what_is_not_utf_8_is_refused(text):
    with pytest.raises(InvalidSearch):
        query_string.parse(text)


def test_more_parameters_than_the_limit_are_refused():
    with pytest.raises(InvalidSearch):
        query_string.parse("&".join(["a=1"] * (query_string.MAX_PARAMETERS + 1)))


@pytest.mark.parametrize("header", ["identifier=s|1", "?identifier=s|1", "Patient?identifier=s|1"])
def test_condition_may_be_written_as_a_url(header):
    assert query_string.parse_condition(header) == (("identifier", "s|1"),)


def test_condition_keeps_a_question_mark_in_a_value():
    assert query_string.parse_condition("name=who?") == (("name", "who?"),)
