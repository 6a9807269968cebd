"""Search texts that are ignored or refused, in searches and conditions; what hostile ones cost."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.search.criteria import MAX_DEPTH
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.parse import MAX_PARAMETERS, MAX_VALUES, ParsedSearch, parse_criteria
from fhir_server.core.search.query import TokenValue
from fhir_server.errors import InvalidSearch

Read = Callable[..., ParsedSearch]

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def only(parsed: ParsedSearch) -> Any:
    (criterion,) = parsed.query.criteria
    return criterion


def test_lenient_handling_names_what_it_ignored(read: Read) -> None:
    found = read(
        "Patient",
        ("foo", "secret"),
        ("gender", "male"),
        ("name", ""),
        ("_sort", "foo"),
        strict=False,
    )
    assert found.applied == (("gender", "male"),)
    assert len(found.query.criteria) == 1
    assert [issue.severity for issue in found.ignored] == ["warning"] * 3
    assert "foo" in found.ignored[0].diagnostics
    assert "secret" not in str(found.ignored)


@pytest.mark.parametrize(
    "param",
    [
        ("foo", "1"),
        ("name", ""),
        ("_sort", "foo"),
        ("_include", "Patient:foo"),
        ("organization.foo", "x"),
        ("foo:exact", "x"),
        ("_has:Observation:foo:code", "x"),
    ],
)
def test_strict_handling_refuses_what_it_does_not_know(read: Read, param: tuple[str, str]) -> None:
    read("Patient", param, strict=False)
    with pytest.raises(InvalidSearch):
        read("Patient", param, strict=True)


@pytest.mark.parametrize(
    "param",
    [
        ("gender:foo", "x"),
        ("gender:exact", "x"),
        ("gender:in", "http://x"),
        ("gender:not-in", "http://x"),
        ("gender:above", "x"),
        ("gender:below", "x"),
        ("name:not", "x"),
        ("birthdate:exact", "2000"),
        ("organization:text", "x"),
        ("organization:Patient", "1"),
        ("organization:Foo", "1"),
        ("_profile:below", "urn:x"),
        ("gender:below", "male"),
        ("organization:below", "x|y"),
        ("general-practitioner:below", "Practitioner/1"),
        ("name:", "x:y"),
        ("gender:missing", "yes"),
        ("gender", "|"),
        ("gender", "a|b|c"),
        ("gender", ","),
        ("name", "\u0301"),
        ("birthdate", "1.1.2000"),
        ("birthdate", "2000-02-30"),
        ("birthdate", "xx2000"),
        ("identifier:of-type", "a|b"),
        ("organization", "Foo/1"),
        ("organization", "Organization/a b"),
        ("organization", "#x"),
        ("organization:Foo.name", "x"),
        ("organization:Patient.name", "x"),
        ("gender.name", "x"),
        ("_has:Observation:patient", "x"),
        ("_has:Foo:patient:code", "x"),
        ("_has:Observation:code:code", "x"),
        ("_has:Observation:device:code", "x"),
        ("_filter", "name eq"),
        ("_filter", "name"),
        ("_filter", "name like x"),
        ("_filter", "name gt x"),
        ("_filter", "gender co x"),
        ("_filter", "name eq x and"),
        ("_filter", "name eq x y"),
        ("_filter", "(name eq x"),
        ("_filter", "name eq x)"),
        ("_filter", "not name eq x"),
        ("_filter", 'name eq "x'),
        ("_filter", 'name eq "\\x"'),
        ("_filter", "birthdate pr maybe"),
        ("_filter", "name[given eq x].family eq y"),
        ("_filter", "gender:not eq male"),
        ("_filter", "_filter eq x"),
        ("_filter", "(" * 50 + "name eq x" + ")" * 50),
        ("_filter", " or ".join(["name eq x"] * 201)),
        ("_filter:not", "name eq x"),
        ("_text", '"blood pressure"'),
        ("_text", "(blood"),
        ("_text", "blood)"),
        ("_text", "blood OR"),
        ("_text", "-"),
        ("_text", "NOT"),
        ("_content", "x " * 300),
        ("_content", "(" * 30 + "x" + ")" * 30),
        ("_list", "$current-problems"),
        ("_list", "a b"),
        ("_query", "x"),
        ("_type", "Patient"),
        ("_contained", "true"),
        ("_count", "-1"),
        ("_count", "many"),
        ("_count", "٣"),
        ("_total", "some"),
        ("_summary", "some"),
        ("_elements", "a b"),
        ("_include", "Patient"),
        ("_include", "Observation:subject"),
        ("_include", "Patient:gender"),
        ("_include", "Patient:organization:Foo"),
        ("_include:foo", "Patient:organization"),
        ("_revinclude", "*"),
        ("name", "a\0b"),
        ("na\0me", "x"),
        ("name", "\ud800"),
    ],
)
def test_what_cannot_be_applied_is_refused_even_leniently(
    read: Read, param: tuple[str, str]
) -> None:
    with pytest.raises(InvalidSearch) as refused:
        read("Patient", param, strict=False)
    assert refused.value.code == "invalid"


def test_a_message_names_the_parameter_and_not_the_value(read: Read) -> None:
    for name, text in [
        ("birthdate", "Ivanov"),
        ("organization", "Ivanov Ivan"),
        ("gender", "I|v|n"),
    ]:
        with pytest.raises(InvalidSearch) as refused:
            read("Patient", (name, text))
        assert name in str(refused.value)
        assert text not in str(refused.value)


@pytest.mark.parametrize("name", ["_near", "near"])
def test_a_special_parameter_is_refused(read: Read, name: str) -> None:
    with pytest.raises(InvalidSearch):
        read("Location", (name, "1|2"))


@pytest.mark.parametrize(
    "params",
    [
        [("_id", ",".join(map(str, range(10_000))))],
        [("_id", "x")] * (MAX_PARAMETERS + 1),
        [("_sort", ",".join(["-_id"] * 500))],
        [("subject" + ".subject" * 30, "x")],
        [("_has:Observation:subject:" * 30 + "code", "x")],
        [("subject." * MAX_DEPTH + "name", "x")],
        [("code", "x" * 1_000_000)],
        [("code", "x" * 5_000)],
        [("x" * 1_000_000, "x")],
        [("subject.subject.subject.subject.subject.subject.code", "x")],
        [("focus.focus.focus.focus.code", ",".join(["x"] * MAX_VALUES))],
        [("code", "\\" * 400_000)],
        [("date", "9" * 300_000)],
        [("value-quantity", "1" * 3_000)],
        [("value-quantity", "1e999999999")],
        [("_elements", ",".join(f"a{n}" for n in range(1000)))],
        [("_include:iterate", f"Observation:subject:{t}") for t in ("Patient", "Foo")],
        [("focus._id", "x")] * 10,
    ],
)
def test_hostile_searches_are_refused_at_once(read: Read, params: list[tuple[str, str]]) -> None:
    started = perf_counter()
    with pytest.raises(InvalidSearch):
        read("Observation", *params, strict=True)
    assert perf_counter() - started < 1


def test_a_large_list_of_alternatives_is_fine(read: Read) -> None:
    ids = ",".join(f"x{n}" for n in range(4_000))
    assert len(only(read("Patient", ("_id", ids))).values) == 4_000


def test_repeated_parameters_are_all_applied(read: Read) -> None:
    found = read("Patient", ("given", "a"), ("given", "b"), ("_sort", "given"), ("_sort", "-_id"))
    assert len(found.query.criteria) == 2
    assert len(found.query.sort) == 2
    with pytest.raises(InvalidSearch):
        read("Patient", ("_count", "1"), ("_count", "2"))


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_search_is_read_or_refused(read: Read, name: str, text: str) -> None:
    try:
        read("Observation", (name, text))
    except InvalidSearch:
        return


@given(
    st.sampled_from(
        ["code", "date", "value-quantity", "subject", "value-string", "probability", "code:text",
         "component-code-value-quantity", "subject.name", "_lastUpdated", "_id"]
    ),
    st.text(alphabet="0123456789-T:Z.|,$\\eqgtlaP/ ", max_size=40),
)  # fmt: skip
def test_any_value_is_read_or_refused(read: Read, name: str, text: str) -> None:
    try:
        read("Observation", (name, text))
    except InvalidSearch:
        return


Criteria = Callable[..., Any]


@pytest.fixture
def criteria(parameters: SearchParameters) -> Criteria:
    def make(*params: tuple[str, str]) -> Any:
        return parse_criteria(
            "Patient",
            params,
            parameters,
            base_url="http://here/fhir",
            time_zone="Europe/Moscow",
            now=NOW,
        )

    return make


def test_a_condition_is_made_of_criteria(criteria: Criteria) -> None:
    (clause,) = criteria(("identifier", "s|1"))
    assert clause.values == (TokenValue("s", "1"),)


@pytest.mark.parametrize(
    "params",
    [
        [],
        [("identifier", "")],
        [("identifier", ",")],
        [("foo", "x")],
        [("identifier", "s|1"), ("foo", "x")],
        [("_count", "1")],
        [("_sort", "name")],
        [("_include:iterate", "Patient:organization")],
        [("_format", "json")],
        [("_filter", "x")],
        [("gender:in", "urn:unknown")],
    ],
)
def test_a_condition_that_would_lose_a_part_is_refused(
    criteria: Criteria, params: list[tuple[str, str]]
) -> None:
    with pytest.raises(InvalidSearch):
        criteria(*params)
