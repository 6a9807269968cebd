"""A set answers for each code as it tells them all; what is not known is neither in nor out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.core.terminology.coding import Asked
from fhir_server.core.terminology.concept_filter import compile_expression
from fhir_server.core.terminology.concept_map import Wanted, translate
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.core.terminology.ucum import is_unit
from fhir_server.core.terminology.value_set import NotTold
from fhir_server.errors import InvalidSearch

CODES = [f"c{n}" for n in range(12)]


def tree(parents):
    concepts = [
        {"code": code, "property": [{"code": "parent", "valueCode": CODES[above]}]}
        if above < number
        else {"code": code}
        for number, (code, above) in enumerate(zip(CODES, parents, strict=True))
    ]
    return {"resourceType": "CodeSystem", "url": "u:s", "content": "complete", "concept": concepts}


filters = st.builds(
    lambda op, value: {"property": "concept", "op": op, "value": value},
    st.sampled_from(["is-a", "descendent-of", "is-not-a", "generalizes", "=", "in", "not-in"]),
    st.sampled_from(CODES),
)
includes = st.one_of(
    st.builds(lambda found: {"system": "u:s", "filter": found}, st.lists(filters, max_size=2)),
    st.builds(
        lambda codes: {"system": "u:s", "concept": [{"code": code} for code in codes]},
        st.lists(st.sampled_from([*CODES, "other"]), min_size=1, max_size=4),
    ),
    st.just({"valueSet": ["u:inner"]}),
    st.just({"system": "u:s", "valueSet": ["u:inner"]}),
)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 11), min_size=12, max_size=12),
    st.lists(includes, min_size=1, max_size=3),
    st.lists(includes, max_size=2),
    filters,
)
def test_a_set_holds_a_code_exactly_when_it_tells_it_and_tells_it_once(
    parents, included, excluded, inner
):
    sets = [
        {
            "resourceType": "ValueSet",
            "url": url,
            "compose": {"include": include, "exclude": exclude},
        }
        for url, include, exclude in (
            ("u:inner", [{"system": "u:s", "filter": [inner]}], []),
            ("u:set", included, excluded),
        )
    ]
    terminology = Terminology([tree(parents), *sets])
    selection = terminology.selection("u:set")
    told = [member.concept.code for member in selection.members()]
    assert len(told) == len(set(told))
    assert set(told) == {code for code in [*CODES, "other"] if selection.holds("u:s", code)}
    assert terminology.codes("u:set").single == {("u:s", code) for code in told}


FRAGMENT = {
    "resourceType": "CodeSystem",
    "url": "u:part",
    "content": "fragment",
    "concept": [{"code": "known"}],
}


@pytest.mark.parametrize(
    ("include", "exclude", "answers"),
    [
        ([{"system": "u:part"}], [], (True, None, False)),
        ([{"system": "u:part", "concept": [{"code": "new"}]}], [], (False, True, False)),
        ([{"system": "u:part"}], [{"system": "u:part"}], (False, False, False)),
        (
            [{"system": "u:part"}],
            [{"system": "u:part", "concept": [{"code": "known"}]}],
            (False, None, False),
        ),
        (
            [{"system": "u:part", "concept": [{"code": "known"}]}, {"system": "u:part"}],
            [],
            (True, None, False),
        ),
        (
            [
                {
                    "system": "u:part",
                    "filter": [{"property": "concept", "op": "is-a", "value": "known"}],
                }
            ],
            [],
            (True, None, False),
        ),
        (
            [{"system": "u:part", "filter": [{"property": "x", "op": "exists", "value": "false"}]}],
            [],
            (None, None, False),
        ),
    ],
)
def test_what_a_fragment_lacks_is_not_known_rather_than_wrong(include, exclude, answers):
    compose = {"include": include, "exclude": exclude}
    value_set = {"resourceType": "ValueSet", "url": "u:set", "compose": compose}
    selection = Terminology([FRAGMENT, value_set]).selection("u:set")
    asked = (("u:part", "known"), ("u:part", "new"), ("u:elsewhere", "known"))
    assert tuple(selection.holds(*each) for each in asked) == answers


@pytest.mark.parametrize(
    ("name", "op", "value"),
    [("concept", "is-a", "new"), ("concept", "is-not-a", "known"), ("kind", "=", "known")],
)
def test_a_fragment_says_only_what_stands_below_its_own_codes(name, op, value):
    asked = {"property": name, "op": op, "value": value}
    compose = {"include": [{"system": "u:part", "filter": [asked]}]}
    value_set = {"resourceType": "ValueSet", "url": "u:set", "compose": compose}
    with pytest.raises(NotTold):
        Terminology([FRAGMENT, value_set]).codes("u:set")


def test_an_expression_matches_the_whole_text_in_linear_time():
    assert compile_expression("a|bc")("bc")
    assert not compile_expression("a|b")("bc")
    assert not compile_expression("(a+)+b")("a" * 100_000)


@pytest.mark.parametrize("text", ["(", "(a{1000}){1000}", "a" * 501, r"(a)\1"])
def test_an_expression_that_cannot_be_bounded_is_refused(text):
    with pytest.raises(InvalidSearch):
        compile_expression(text)


@pytest.mark.parametrize("unit", ["mm[Hg]", "10*3/uL", "kg.m/s2", "[degF]", "{steps}", "1", "%"])
def test_ucum_units(unit):
    assert is_unit(unit)


@pytest.mark.parametrize("unit", ["", "mmHg", "Cel/", "mg//L", "µg", "m" * 201, "MM[HG]"])
def test_what_is_no_ucum_unit(unit):
    assert not is_unit(unit)


def concept_map(**unmapped):
    element = {"code": "1", "target": [{"code": "a", "equivalence": "equivalent"}]}
    group = {"source": "u:x", "target": "u:y", "element": [element], "unmapped": unmapped}
    return {"resourceType": "ConceptMap", "url": "u:map", "group": [group]}


@pytest.mark.parametrize(
    ("unmapped", "code"),
    [
        ({"mode": "provided"}, "9"),
        ({"mode": "fixed", "code": "none"}, "none"),
        ({"mode": "other-map", "url": "u:other"}, "b"),
    ],
)
def test_what_a_map_does_not_list_is_what_it_says_of_the_rest(unmapped, code):
    element = {"code": "9", "target": [{"code": "b", "equivalence": "equal"}]}
    other = {"group": [{"source": "u:x", "target": "u:y", "element": [element]}]}
    found = translate(
        [concept_map(**unmapped)], [Asked("u:x", "9")], Wanted(), {"u:other": other}.__getitem__
    )
    match = found["parameter"][-1]["part"]
    assert match[1]["valueCoding"]["code"] == code


def test_a_map_that_refers_to_itself_ends():
    itself = concept_map(mode="other-map", url="u:map")
    with pytest.raises(InvalidSearch):
        translate([itself], [Asked("u:x", "9")], Wanted(), lambda url: itself)
