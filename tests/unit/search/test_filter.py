"""`_filter`: its grammar, and what its operators mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.search import filter as filter_
from fhir_server.core.search.filter import Comparison, parse
from fhir_server.core.search.query import AllOf, AnyOf, Not
from fhir_server.errors import InvalidSearch

PATIENTS = [
    {
        "resourceType": "Patient",
        "id": "anna",
        "name": [{"family": "Ivanova", "given": ["Anna", "Maria"]}],
        "gender": "female",
        "birthDate": "1980-05-17",
        "active": True,
        "managingOrganization": {"reference": "Organization/o1"},
    },
    {
        "resourceType": "Patient",
        "id": "boris",
        "name": [{"family": "Ivanov", "given": ["Boris"]}],
        "gender": "male",
        "birthDate": "1975",
    },
    {"resourceType": "Patient", "id": "nobody"},
    {"resourceType": "Organization", "id": "o1", "name": "Clinic"},
]


def found_by(text, find):
    return find(PATIENTS, "Patient", ("_filter", text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('family eq "IVANOV"', ["boris"]),
        ("family sw ivanov", ["anna", "boris"]),
        ("family ew ova", ["anna"]),
        ("given co ari", ["anna"]),
        ("given ne anna", ["anna", "boris"]),
        ("family ne ivanov", ["anna"]),
        ("gender ne male", ["anna"]),
        ("not (gender eq male)", ["anna", "nobody"]),
        ("gender pr false", ["nobody"]),
        ("birthdate pr true", ["anna", "boris"]),
        ("birthdate ge 1980 and gender eq female", ["anna"]),
        ("birthdate po 1980-05", ["anna"]),
        ("birthdate po 1975-02-02", ["boris"]),
        ("birthdate eq 1975-02-02", []),
        ("birthdate lt 1976", ["boris"]),
        ("organization re Organization/o1", ["anna"]),
        ("organization eq o1", ["anna"]),
        ('organization.name co "lin"', ["anna"]),
        ("organization.id eq o1", ["anna"]),
        ("id eq boris", ["boris"]),
        ("_id ne boris", ["anna", "nobody"]),
        ("active eq true", ["anna"]),
    ],
)
def test_an_operator_means_what_the_modifier_does(find, text, expected):
    assert found_by(text, find) == expected


def test_and_and_or_have_no_precedence(find):
    assert found_by("gender eq female or gender eq male and active eq true", find) == ["anna"]
    text = "gender eq male or (gender eq male and active eq true)"
    assert found_by(text, find) == ["boris"]


def test_values_keep_what_separates_values_elsewhere(find):
    comma = {"resourceType": "Patient", "id": "c", "name": [{"family": 'a,b\\|"c'}]}
    assert find([comma], "Patient", ("_filter", r'family eq "a,b\\|\"c"')) == ["c"]
    assert find([comma], "Patient", ("_filter", "family sw a,b")) == ["c"]


def test_a_unit_may_have_brackets():
    found = []
    parse("value-quantity gt 5|http://u|mm[Hg]", lambda test: found.append(test) or Not(None))
    assert found == [Comparison("value-quantity", "gt", "5|http://u|mm[Hg]")]


TESTS = st.tuples(
    st.sampled_from(["name", "subject.name", "_has:Observation:patient:code"]),
    st.sampled_from(sorted(filter_.OPERATORS)),
    st.text(min_size=1, max_size=8),
)
TREES = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=12,
)


def written(tree):
    from fhir_server.core.resource_json import format as format_json

    match tree:
        case ("not", inner):
            return f"not ({written(inner)})"
        case ("and" | "or" as word, left, right):
            return f"({written(left)}) {word}  ({written(right)})"
        case (path, operator, value):
            return f"{path} {operator} {format_json(value).decode()}"


def shape(criterion):
    match criterion:
        case Not(inner):
            return ("not", shape(inner))
        case AllOf(criteria):
            return ("and", *map(shape, criteria))
        case AnyOf(criteria) if not isinstance(criterion, Comparison):
            return ("or", *map(shape, criteria))
    return tuple(criterion)


def flat(tree):
    match tree:
        case ("not", inner):
            return ("not", flat(inner))
        case ("and" | "or" as word, left, right):
            left, right = flat(left), flat(right)
            first = left[1:] if left[0] == word else (left,)
            return (word, *first, right)
    return tree


@given(TREES)
def test_what_is_written_is_read(tree):
    assert shape(parse(written(tree), lambda test: test)) == flat(tree)


@given(st.text(alphabet='abn not() eq"\\[]and or.', max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        parse(text, lambda test: test)
    except InvalidSearch as error:
        assert str(error).startswith("_filter")  # noqa: PT017
