"""Plain criteria and short searches, which are remembered."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.search import plain
from fhir_server.core.search.parse import parse, parse_criteria
from fhir_server.definitions import load
from fhir_server.errors import InvalidSearch

PARAMETERS = load().parameters
SPRING = datetime(2024, 3, 5, 10, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 1, 10, tzinfo=UTC)


def search(*params, now=SPRING, base_url="http://a.example/fhir", zone="Europe/Moscow", size=50):
    return parse(
        "Observation",
        params,
        PARAMETERS,
        base_url=base_url,
        time_zone=zone,
        now=now,
        max_page_size=1_000,
        default_page_size=size,
        strict=True,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date", "ap2024-03"),
        ("code:in", "urn:set"),
        ("patient.name", "x"),
        ("_has:Provenance:target:agent", "x"),
        ("code", "a,b"),
        ("code-value-date", "a$ap2024"),
        ("_list", "x"),
        ("_filter", "status eq final"),
        ("code", ""),
        ("code", "x" * 129),
    ],
)
def test_what_may_mean_other_things_later_or_is_long_is_not_plain(name, text):
    assert not plain.is_plain(name, text)


@pytest.mark.parametrize("name", ["code", "date", "patient", "value-quantity", "_id"])
def test_one_value_without_a_modifier_is_plain(name):
    assert plain.is_plain(name, "2024")


def test_an_approximate_date_is_measured_from_each_request():
    first = search(("date", "ap2024-03-01"), now=SPRING).query
    assert search(("date", "ap2024-03-01"), now=AUTUMN).query != first


@pytest.mark.parametrize(
    "other", [{"base_url": "http://b.example/fhir"}, {"zone": "Asia/Vladivostok"}, {"size": 7}]
)
def test_what_was_remembered_is_of_the_same_server_zone_and_page_size(other):
    params = (("subject", "http://a.example/fhir/Patient/1"), ("date", "2024-03-05"))
    first = search(*params).query
    assert search(*params, **other).query != first
    assert search(*params).query == first


def test_a_fault_is_told_each_time():
    for _ in range(2):
        with pytest.raises(InvalidSearch, match="date"):
            search(("date", "yesterday"))


@given(
    st.lists(
        st.sampled_from(
            [
                ("patient", "Patient/1"), ("patient", "1"), ("code", "urn:s|a"), ("code", "a"),
                ("date", "ge2024-01-01"), ("date", "lt2024-02"), ("value-quantity", "gt5.40"),
                ("status", "final"), ("_id", "x"), ("_lastUpdated", "gt2024"),
                ("_sort", "-date"), ("_elements", "code"), ("_include", "Observation:subject"),
            ]
        ),
        max_size=6,
        unique_by=lambda pair: pair[0] if pair[0].startswith("_") else pair,
    )
)  # fmt: skip
def test_a_remembered_search_is_read_as_a_new_one(params):
    asked = [pair for pair in params if pair[0] not in ("_sort", "_elements", "_include")]
    found = search(*params)
    assert search(*params) == found
    if asked:
        # The criteria of a condition are never remembered.
        assert found.query.criteria == parse_criteria(
            "Observation",
            asked,
            PARAMETERS,
            base_url="http://a.example/fhir",
            time_zone="Europe/Moscow",
            now=AUTUMN,
        )
    # A list is not remembered, nor is a search that has one.
    anew = search(*params, ("category", "x,y"))
    assert anew.query.sort == found.query.sort
    assert anew.includes == found.includes
    assert anew.elements == found.elements
    assert anew.applied[: len(params)] == found.applied
