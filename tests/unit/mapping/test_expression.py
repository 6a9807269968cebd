"""Compiled expressions answer as the library does; numbers stay exact."""

from decimal import Decimal
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.mapping.expression import (
    InvalidExpressionError,
    compile_condition,
    compile_expression,
    compile_look,
    plain_path,
)

NAMES = st.sampled_from(["a", "b", "c", '"a b"', '"0"'])
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "a"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "a b", "0"]), inner, max_size=4)
    ),
    max_leaves=12,
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
ATOMS = (
    PATHS
    | st.sampled_from(["@", "`0`", "`1`", "`true`", "`null`", "`[]`", "'x'", "''"])
    | PATHS.map(lambda path: f"not_null({path}, 'x')")
    | PATHS.map(lambda path: f"not_null({path}, a, b)")
    | PATHS.map(lambda path: f"type({path})")
    | PATHS.map(lambda path: f"ends_with(type({path}), 'g')")
    | PATHS.map(lambda path: f"starts_with(type({path}), 'n')")
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["==", "!=", "&&", "||"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        )
        | inner.map(lambda e: f"!({e})")
    ),
    max_leaves=5,
)


@given(path=PATHS, value=VALUES)
def test_a_field_path_finds_what_jmespath_finds(path: str, value: Any) -> None:
    assert compile_look(path)(value) == jmespath.search(path, value)


@given(text=EXPRESSIONS, value=VALUES)
def test_a_compiled_expression_answers_as_jmespath_does(text: str, value: Any) -> None:
    ours, theirs = compile_look(text)(value), jmespath.search(text, value)
    assert (ours, type(ours)) == (theirs, type(theirs))


@given(text=EXPRESSIONS, value=VALUES)
def test_a_condition_is_true_where_jmespath_finds_something_true(text: str, value: Any) -> None:
    found = jmespath.search(text, value)
    is_false = found is None or found is False or found in ("", [], {})
    assert compile_condition(text)(value, None) is not is_false
    assert compile_condition(f"$.{text}")(None, value) is compile_condition(text)(value, None)


@given(path=PATHS, value=VALUES, name=st.sampled_from(["starts_with", "ends_with"]))
def test_the_end_of_what_is_no_text_is_null(path: str, value: Any, name: str) -> None:
    found = jmespath.search(path, value)
    expected = jmespath.search(f"{name}({path}, 'x')", value) if isinstance(found, str) else None
    assert compile_look(f"{name}({path}, 'x')")(value) is expected


@given(path=PATHS, operator=st.sampled_from(["<", ">", "<=", ">="]), value=VALUES)
def test_ordering_of_unlike_things_is_null(path: str, operator: str, value: Any) -> None:
    text = f"{path} {operator} `1`"
    found = jmespath.search(path, value)
    is_number = isinstance(found, int) and not isinstance(found, bool)
    expected = jmespath.search(text, value) if is_number else None
    assert compile_look(text)(value) is expected


def test_a_literal_with_a_fraction_equals_the_payloads_decimal() -> None:
    assert compile_look("a == `37.1`")({"a": Decimal("37.1")}) is True


def test_a_decimal_is_a_number_for_every_function() -> None:
    value = {"a": [Decimal("1.5"), 2], "t": "2.50"}
    assert compile_look("sum(a)")(value) == Decimal("3.5")
    assert compile_look("type(a[0])")(value) == "number"
    assert str(compile_look("to_number(t)")(value)) == "2.50"
    assert compile_look("to_string(a[0])")(value) == '"1.5"'


def test_a_function_of_a_wrong_type_is_null() -> None:
    assert compile_look("length(a)")({"a": 1}) is None
    assert compile_look("a[?length(@) > `1`]")({"a": [1, "xy"]}) == ["xy"]


def test_a_dollar_looks_into_the_payload() -> None:
    assert compile_expression("$.a.b")({"a": 1}, {"a": {"b": 2}}) == 2
    assert compile_expression("a")({"a": 1}, {"a": {"b": 2}}) == 1


@pytest.mark.parametrize(
    ("value", "expected"), [(None, False), (False, False), ("", False), (0, True), ([], False)]
)
def test_a_condition_takes_zero_for_true_and_nothing_for_false(value: Any, expected: bool) -> None:
    assert compile_condition("a")({"a": value}, {}) is expected


def test_only_paths_are_plain() -> None:
    assert plain_path("a.b") == ("a", "b")
    assert plain_path("$.a") == ("a",)
    assert plain_path("a[0]") is None
    assert plain_path("a || b") is None


@pytest.mark.parametrize(
    "text", ["a[", "a ==", "foo(@)", "length()", "a b", "", "$.", "'x", "a..b"]
)
def test_what_is_no_expression_is_refused_when_compiled(text: str) -> None:
    with pytest.raises(InvalidExpressionError):
        compile_expression(text)
