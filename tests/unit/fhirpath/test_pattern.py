"""Regular expressions of strangers, and expressions that cannot be evaluated."""

import json
import re
from pathlib import Path

import pytest

from fhir_server.core.fhirpath.interpret import NotEvaluated, evaluate
from fhir_server.core.fhirpath.pattern import PatternRefused, matches, replace_matches

INVARIANTS = Path(__file__).parents[3] / "profiles" / "r4" / "invariants.json"
# Each takes an engine that backtracks longer than anybody waits.
EVIL = [r"(a+)+$", r"(a|aa)+$", r"^(a|a?)+$", r"(.*a){25}$", r"^(([a-z])+.)+[A-Z]([a-z])+$"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("evil", EVIL)
def test_no_pattern_runs_for_ever(evil):
    text = "a" * 15_000 + "!"
    assert matches(text, evil) is False
    assert replace_matches(text, evil, "x" * 10) == text
    assert evaluate(f"matches('{evil}')", "string", text, None, {}) == [False]


@pytest.mark.timeout(20)
def test_the_worst_pattern_that_fits_is_told_in_time():
    assert matches("abcdefghij" * 2_000, r"(.{1,100}[ab]){1,9}z9") is False


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("a", "("),
        ("a", "(?=a)"),
        ("aa", r"(a)\1"),
        ("a", "((a{1,1000}){1,1000}){1,1000}"),
        ("a", "a" * 2_001),
        ("a" * 20_001, "a"),
    ],
)
def test_a_pattern_that_is_not_run_is_refused(text, pattern):
    with pytest.raises(PatternRefused):
        matches(text, pattern)
    with pytest.raises(PatternRefused):
        replace_matches(text, pattern, "")


@pytest.mark.parametrize(
    ("text", "pattern", "substitution", "expected"),
    [
        ("11/30", r"(\d+)/(\d+)", "$2.$1", "30.11"),
        ("abc", "b", "$0$0", "abbc"),
        ("abc", "(x)?b", "[$1]", "a[]c"),
        ("abc", "b", r"\1\n$", r"a\1\n$c"),
        ("рука", "у", "е", "река"),
        ("ab", "", "-", "-a-b-"),
    ],
)
def test_matches_are_replaced(text, pattern, substitution, expected):
    assert replace_matches(text, pattern, substitution) == expected


def test_a_replacement_has_a_bound_and_its_groups():
    with pytest.raises(PatternRefused):
        replace_matches("a" * 10_000, "a", "b" * 1_000)
    with pytest.raises(PatternRefused):
        replace_matches("a", "a", "$1")


def test_a_point_is_any_character_and_a_match_may_be_anywhere():
    assert matches("a\nb", "a.b")
    assert matches("xaby", "ab")
    assert not matches("xaby", "^ab")


def test_every_pattern_of_r4_is_run():
    rules = json.loads(INVARIANTS.read_bytes())
    calls = [
        call
        for own in rules.values()
        for *_, expression in own
        for call in re.findall(r"matches\('(?:[^'\\]|\\.)*'\)", expression)
    ]
    assert len(calls) > 30
    for call in calls:
        assert evaluate(call, "string", "Abc", None, {}) in ([True], [False])


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("conformsTo('x')", "it uses conformsTo()"),
        ("matches('(')", "regular expression"),
        ("matches('a', 'b')", "no FHIRPath, or not"),
        ("1 / 'a'", "no FHIRPath, or not"),
        ("#", "no FHIRPath"),
        ("(", "no FHIRPath"),
        ("%nobody", "no FHIRPath, or not"),
        ("(" * 300 + "1" + ")" * 300, "no FHIRPath, or not"),
        ("a" * 2_001, "too long"),
    ],
)
def test_what_cannot_be_evaluated_is_told_without_a_value(expression, told):
    with pytest.raises(NotEvaluated, match=told.replace("(", r"\(").replace(")", r"\)")) as raised:
        evaluate(expression, "string", "secret", None, {})
    assert "secret" not in str(raised.value)


@pytest.mark.timeout(20)
def test_what_cannot_be_read_is_read_once():
    expression = "1" + "+1" * 999
    for _ in range(50):
        with pytest.raises(NotEvaluated):
            evaluate(expression, "string", "x", None, {})


def test_a_fault_that_no_expression_makes_is_not_taken_for_one():
    class Failing(dict):
        def get(self, *_):
            raise OSError("a disk")

    with pytest.raises(OSError, match="a disk"):
        evaluate("%thing.a", "string", "x", None, {"thing": Failing(a=1)})
