"""Value sets: the codes they are made of, or a refusal where that cannot be told."""

import pytest

from fhir_server.core.terminology.terminology import NotLoaded, Terminology
from fhir_server.core.terminology.value_set import Codes
from fhir_server.errors import InvalidSearch

ANIMALS = {
    "resourceType": "CodeSystem",
    "url": "urn:animals",
    "content": "complete",
    "concept": [
        {"code": "cat", "concept": [{"code": "lynx"}, {"code": "manx"}]},
        {"code": "dog", "property": [{"code": "child", "valueCode": "pug"}]},
        {
            "code": "husky",
            "property": [
                {"code": "parent", "valueCode": "dog"},
                {"code": "legs", "valueInteger": 4},
            ],
        },
    ],
}


def value_set(url="urn:set", include=None, exclude=None, **others):
    compose = {"include": include or [], "exclude": exclude or []}
    return {"resourceType": "ValueSet", "url": url, "compose": compose, **others}


def codes_of(*sets, url="urn:set", known=(ANIMALS,)):
    terminology = Terminology([*known, *sets])
    for _ in range(10):
        try:
            return terminology.codes(url)
        except NotLoaded as missing:
            terminology = terminology.having(missing, None)
    raise AssertionError("it asks for ever")


def of(*codes):
    return Codes(frozenset(("urn:animals", code) for code in codes))


def filtered(op, value):
    return having("concept", op, value)


def having(name, op, value):
    return {"system": "urn:animals", "filter": [{"property": name, "op": op, "value": value}]}


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ([filtered("is-a", "cat")], of("cat", "lynx", "manx")),
        ([filtered("descendent-of", "cat")], of("lynx", "manx")),
        ([filtered("is-a", "dog")], of("dog", "pug", "husky")),
        ([filtered("is-not-a", "dog")], of("cat", "lynx", "manx")),
        ([filtered("generalizes", "lynx")], of("lynx", "cat")),
        ([filtered("in", "cat, dog")], of("cat", "dog")),
        ([filtered("not-in", "cat, dog")], of("lynx", "manx", "pug", "husky")),
        ([filtered("=", "pug")], of("pug")),
        ([filtered("regex", "[lm].n?x")], of("lynx", "manx")),
        ([filtered("regex", "at")], of()),
        ([having("parent", "exists", "false")], of("cat", "dog")),
        ([having("parent", "=", "dog")], of("pug", "husky")),
        ([having("legs", "in", "3,4")], of("husky")),
        ([having("legs", "not-in", "3,4")], of("cat", "lynx", "manx", "dog", "pug")),
        ([{"system": "urn:animals"}], of("cat", "lynx", "manx", "dog", "pug", "husky")),
        ([{"system": "urn:far"}], Codes(systems=frozenset({"urn:far"}))),
        ([{"system": "urn:animals", "concept": [{"code": "cat"}]}], of("cat")),
    ],
)
def test_an_include_says_which_codes(include, expected):
    assert codes_of(value_set(include=include)) == expected


def test_what_is_excluded_is_not_in_it():
    whole = [{"system": "urn:animals"}]
    found = codes_of(value_set(include=whole, exclude=[filtered("is-a", "cat")]))
    assert found == of("dog", "pug", "husky")


def test_a_system_that_is_not_known_cannot_lose_codes():
    exclude = [{"system": "urn:far", "concept": [{"code": "x"}]}]
    with pytest.raises(InvalidSearch):
        codes_of(value_set(include=[{"system": "urn:far"}], exclude=exclude))


def test_an_include_of_system_and_sets_is_what_all_of_them_have():
    inner = value_set("urn:inner", [filtered("is-a", "cat")])
    other = value_set("urn:other", [filtered("is-not-a", "lynx"), {"system": "urn:far"}])
    both = {"system": "urn:animals", "valueSet": ["urn:inner", "urn:other"]}
    assert codes_of(value_set(include=[both]), inner, other) == of("cat", "manx")


def test_a_set_of_itself_is_refused():
    with pytest.raises(InvalidSearch):
        codes_of(value_set(include=[{"valueSet": ["urn:set"]}]))


def test_an_expansion_counts_where_nothing_else_is_said():
    expansion = {"contains": [{"system": "s", "code": "a", "contains": [{"code": "b"}]}]}
    only = {"resourceType": "ValueSet", "url": "urn:set", "expansion": expansion}
    assert codes_of(only) == Codes(frozenset({("s", "a"), ("", "b")}))
    with pytest.raises(InvalidSearch):
        codes_of({**only, "expansion": {**expansion, "total": 5}})


@pytest.mark.parametrize(
    "include",
    [
        [filtered("regex", "(")],
        [filtered("like", "c")],
        [{"system": "urn:animals", "filter": [{"property": "x", "op": "is-a", "value": "1"}]}],
        [{"system": "urn:far", "filter": [{"property": "code", "op": "is-a", "value": "1"}]}],
        [{"valueSet": ["urn:nowhere"]}],
        [{}],
    ],
)
def test_what_cannot_be_told_is_refused(include):
    with pytest.raises(InvalidSearch):
        codes_of(value_set(include=include))


def test_too_many_codes_are_refused():
    many = [{"system": "s", "concept": [{"code": str(n)} for n in range(5_001)]}]
    with pytest.raises(InvalidSearch):
        codes_of(value_set(include=many))
