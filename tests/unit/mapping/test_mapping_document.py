"""A mapping file's values know their line and keep their digits."""

from decimal import Decimal

import pytest

from fhir_server.core.mapping.document import Position, parse


def test_values_are_plain_and_numbers_exact() -> None:
    document, faults = parse("a: 0.10\nb: [1, no, true, null, 2022-07-01]\n0: {x: ~}\n")
    assert faults == ()
    assert document is not None
    assert document.value == {
        "a": Decimal("0.10"),
        "b": [1, "no", True, None, "2022-07-01"],
        "0": {"x": None},
    }
    assert str(document.value["a"]) == "0.10"


def test_a_path_has_its_position_or_that_of_what_is_around_it() -> None:
    document, _ = parse("a: 1\nb:\n  - c: 2\n")
    assert document is not None
    assert document.at(("b", 0, "c")) == Position(3, 5)
    assert document.at(("b", 0, "missing", 3)) == Position(3, 5)
    assert document.at(("nowhere",)) == Position(1, 1)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\na: 2\n", 2, "`a` stands here twice"),
        ("a: [1\n", 2, "not YAML"),
        ("a: 1\n? [x]\n: 2\n", 2, "a key must be a word"),
        ("", 1, "empty"),
        ("a: .inf\n", 1, "digits only"),
        ("a: !!python/object:os.system x\n", 1, ""),
    ],
)
def test_a_fault_of_syntax_has_its_line(text: str, line: int, says: str) -> None:
    document, faults = parse(text)
    if says:
        assert [(f.position.line, says in f.reason) for f in faults] == [(line, True)]
    else:
        # A tag makes nothing: the text behind it stays a text.
        assert document is not None
        assert document.value == {"a": "x"}


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    _, faults = parse("\n".join(lines))
    assert "too large" in faults[0].reason


def test_an_alias_of_itself_is_stopped() -> None:
    _, faults = parse("a: &a [*a]\n")
    assert "nested too deeply" in faults[0].reason
