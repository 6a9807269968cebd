"""Search texts: what they are read as."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.quantity import UCUM
from fhir_server.core.search.parameter import Source
from fhir_server.core.search.parse import ParsedSearch
from fhir_server.core.search.query import (
    AnyOf,
    Chain,
    Clause,
    CompositeValue,
    Has,
    Include,
    MissingValue,
    Prefix,
    ReferenceValue,
    StringValue,
    TokenValue,
    Total,
    UriValue,
)
from fhir_server.core.search.values import split, unescape
from fhir_server.errors import InvalidSearch

Read = Callable[..., ParsedSearch]


def only(parsed: ParsedSearch) -> Any:
    (criterion,) = parsed.query.criteria
    return criterion


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("final", TokenValue(None, "final")),
        ("s|final", TokenValue("s", "final")),
        ("|final", TokenValue("", "final")),
        ("s|", TokenValue("s", None)),
        ("a\\|b|c\\,d\\$\\\\", TokenValue("a|b", "c,d$\\")),
    ],
)
def test_a_token_is_a_code_a_system_or_both(read: Read, text: str, value: TokenValue) -> None:
    assert only(read("Observation", ("code", text))).values == (value,)


def test_commas_part_alternatives_unless_escaped(read: Read) -> None:
    clause = only(read("Patient", ("name", "a,,b\\,c,a")))
    assert clause.values == (StringValue("a", "a"), StringValue("b,c", "b,c"))


@given(st.lists(st.text(alphabet="a\\,|$", max_size=5), min_size=1, max_size=5))
def test_escaped_parts_survive_splitting(parts: list[str]) -> None:
    def escape(text: str) -> str:
        for character in "\\,|$":
            text = text.replace(character, "\\" + character)
        return text

    for separator in ",|$":
        joined = separator.join(escape(part) for part in parts)
        assert [unescape(part) for part in split(joined, separator)] == parts


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("subject", "Patient/1", [ReferenceValue("Patient", "1")]),
        ("subject", "1", [ReferenceValue(None, "1")]),
        ("patient", "1", [ReferenceValue("Patient", "1")]),
        ("subject:Patient", "1", [ReferenceValue("Patient", "1")]),
        ("subject:Patient", "Patient/1", [ReferenceValue("Patient", "1")]),
        ("subject", "Patient/1/_history/2", [ReferenceValue("Patient", "1", None, "2")]),
        (
            "subject",
            "http://here/fhir/Patient/1",
            [
                ReferenceValue("Patient", "1"),
                ReferenceValue(None, None, "http://here/fhir/Patient/1"),
            ],
        ),
        (
            "subject",
            "http://other/fhir/Patient/1",
            [ReferenceValue(None, None, "http://other/fhir/Patient/1")],
        ),
        ("subject", "urn:uuid:1", [ReferenceValue(None, None, "urn:uuid:1")]),
        (
            "instantiates-canonical",
            "http://x/p|2",
            [ReferenceValue(None, None, "http://x/p", "2")],
        ),
    ],
)
def test_a_reference_is_local_or_a_url(
    read: Read, name: str, text: str, values: list[ReferenceValue]
) -> None:
    resource_type = "CarePlan" if name.startswith("inst") else "Observation"
    assert list(only(read(resource_type, (name, text))).values) == values


def test_a_number_has_the_range_that_its_digits_imply(read: Read) -> None:
    def number(text: str) -> tuple[Prefix, Decimal, Decimal, Decimal]:
        (value,) = only(read("RiskAssessment", ("probability", text))).values
        return tuple(value)

    assert number("100") == (Prefix.EQ, 100, Decimal("99.5"), Decimal("100.5"))
    assert number("100.00")[2:] == (Decimal("99.995"), Decimal("100.005"))
    assert number("1e2")[2:] == (50, 150)
    assert number("-0.5")[2:] == (Decimal("-0.55"), Decimal("-0.45"))
    assert number("gt5")[0] is Prefix.GT
    assert number("ap-100") == (Prefix.AP, -100, -110, -90)
    assert number("ap1")[2:] == (Decimal("0.5"), Decimal("1.5"))


@pytest.mark.parametrize(("sign", "prefix"), [(">", "gt"), ("<", "lt"), (">=", "ge"), ("<=", "le")])
@pytest.mark.parametrize(
    ("resource_type", "name", "text"),
    [
        ("Patient", "birthdate", "1980"),
        ("RiskAssessment", "probability", "0.5"),
        ("Observation", "value-quantity", f"5.4|{UCUM}|mg"),
    ],
)
def test_the_signs_of_old_clients_are_prefixes(
    read: Read, resource_type: str, name: str, text: str, sign: str, prefix: str
) -> None:
    signed = read(resource_type, (name, sign + text))
    assert signed.query.criteria == read(resource_type, (name, prefix + text)).query.criteria


def test_a_quantity_is_also_read_in_canonical_units(read: Read) -> None:
    (value,) = only(read("Observation", ("value-quantity", f"le5.4|{UCUM}|mg"))).values
    assert (value.system, value.code, value.canonical_code) == (UCUM, "mg", "g")
    assert value.canonical.prefix is value.number.prefix is Prefix.LE
    assert value.canonical[1:] == (Decimal("0.0054"), Decimal("0.00535"), Decimal("0.00545"))
    (value,) = only(read("Observation", ("value-quantity", "5.4||mg"))).values
    assert value[1:] == (None, "mg", None, None)
    (value,) = only(read("Observation", ("value-quantity", "5.4"))).values
    assert value[1:] == (None, None, None, None)


def test_a_plus_that_became_a_space_is_still_an_offset(read: Read) -> None:
    plus = read("Observation", ("date", "ge2024-03-01T10:00:00+03:00"))
    space = read("Observation", ("date", "ge2024-03-01T10:00:00 03:00"))
    assert plus.query == space.query


def test_missing_is_a_question_of_every_type_of_parameter(read: Read) -> None:
    for name in ("code", "subject", "date", "value-quantity", "value-string", "_profile"):
        clause = only(read("Observation", (f"{name}:missing", "true")))
        assert clause[1:] == ("missing", (MissingValue(True),))


def test_of_type_asks_for_the_entries_beside_the_identifier(read: Read) -> None:
    clause = only(read("Patient", ("identifier:of-type", "t|MR|1\\|2")))
    assert clause.parameter.sources == (Source("identifier:of-type"),)
    assert clause[1:] == ("", (TokenValue("t", "MR|1|2"),))


def test_a_chain_names_its_type_or_is_about_all_that_fit(read: Read) -> None:
    chain = only(read("Observation", ("subject:Patient.name", "x")))
    assert isinstance(chain, Chain)
    assert (chain.parameter.code, chain.resource_type) == ("subject", "Patient")
    assert isinstance(chain.criterion, Clause)
    several = only(read("Observation", ("subject.identifier", "x")))
    assert isinstance(several, AnyOf)
    types = [c.resource_type for c in several.criteria if isinstance(c, Chain)]
    assert sorted(types) == ["Device", "Group", "Location", "Patient"]
    # Only a Patient has a birth date: no need to say so.
    assert only(read("Observation", ("subject.birthdate", "2000"))).resource_type == "Patient"
    assert only(read("Observation", ("patient.name", "x"))).resource_type == "Patient"


def test_chains_and_has_nest(read: Read) -> None:
    chain = only(read("Observation", ("patient.organization.name:exact", "x")))
    inner = chain.criterion
    assert (inner.parameter.code, inner.resource_type) == ("organization", "Organization")
    assert inner.criterion.modifier == "exact"
    has = only(read("Patient", ("_has:Observation:patient:_has:Provenance:target:agent", "x")))
    assert isinstance(has, Has)
    assert isinstance(has.criterion, Has)
    assert has.criterion.parameter.resource_type == "Provenance"
    mixed = only(read("Encounter", ("patient._has:Group:member:code", "x")))
    assert isinstance(mixed.criterion, Has)


def test_a_composite_has_a_value_for_each_part(read: Read) -> None:
    clause = only(read("Observation", ("component-code-value-quantity", "s|a\\$b$gt5,c$6")))
    first, second = clause.values
    assert isinstance(first, CompositeValue)
    assert first.parts[0] == TokenValue("s", "a$b")
    assert first.parts[1].number.prefix is Prefix.GT
    assert second.parts[0] == TokenValue(None, "c")


def test_a_derived_composite_is_any_of_those_it_is_made_of(read: Read) -> None:
    found = only(read("Observation", ("combo-code-value-quantity", "a$5")))
    assert isinstance(found, AnyOf)
    codes = [c.parameter.code for c in found.criteria if isinstance(c, Clause)]
    assert sorted(codes) == ["code-value-quantity", "component-code-value-quantity"]


def test_uris_are_not_split_at_bars(read: Read) -> None:
    assert only(read("ValueSet", ("url", "http://x|1"))).values == (UriValue("http://x|1"),)


def test_results_are_shaped_by_their_own_parameters(read: Read) -> None:
    found = read(
        "Observation",
        ("_sort", "-date,code"),
        ("_count", "20"),
        ("_total", "accurate"),
        ("_summary", "data"),
        ("_elements", "code,value"),
        ("_include", "Observation:subject:Patient"),
        ("_include:iterate", "Patient:organization"),
        ("_revinclude", "Provenance:target"),
        ("_include", "*"),
        ("_format", "json"),
    )
    assert [(k.parameter.code, k.descending) for k in found.query.sort] == [
        ("date", True),
        ("code", False),
    ]
    assert (found.query.count, found.query.total) == (20, Total.ACCURATE)
    assert (found.summary, found.elements) == ("data", ("code", "value"))
    first, second, third, fourth = found.includes
    assert (first.target, first.reverse, first.iterate) == ("Patient", False, False)
    assert (second.resource_type, second.iterate) == ("Patient", True)
    assert (third.resource_type, third.reverse) == ("Provenance", True)
    assert fourth == Include("Observation", None)
    assert len(found.applied) == 10


def test_a_page_is_never_over_its_limit(read: Read) -> None:
    assert read("Patient", ("_count", "5000"), page=100).query.count == 100
    assert read("Patient", page=10).query.count == 10


@pytest.mark.parametrize("include", ["_include", "_revinclude"])
def test_a_summary_of_text_has_no_includes(read: Read, include: str) -> None:
    with pytest.raises(InvalidSearch, match="_summary=text"):
        read("Observation", ("_summary", "text"), (include, "Observation:subject"))


@pytest.mark.parametrize("param", [("_summary", "count"), ("_count", "0")])
def test_a_count_counts_and_fetches_nothing(read: Read, param: tuple[str, str]) -> None:
    found = read("Patient", param, ("_include", "Patient:organization"))
    assert (found.summary, found.query.count, found.query.total) == ("count", 0, Total.ACCURATE)
    assert found.includes == ()
