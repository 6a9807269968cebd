"""`_filter`: its expressions as criteria.

https://hl7.org/fhir/R4/search_filter.html. `and` and `or` have no precedence: they are
read from left to right. An operator means what the prefix or modifier of the same meaning
does; what has no such meaning for a type of parameter is refused. Strings are compared
without case and accents, codes as they are written.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from fhir_server.core.resource_json import parse as parse_json
from fhir_server.core.search.query import AllOf, AnyOf, Criterion, Not
from fhir_server.errors import InvalidSearch, MalformedResource

MOST_TESTS = 200
_DEEPEST = 30

_SPACE = re.compile(r"\s*")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_:.\-]*")
_WORD = re.compile(r"[a-z]+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
# R4 has no bracket in a token, but units do: mm[Hg].
_TOKEN = re.compile(r"(?:[^\s\[\])]|\[[^\s\]]*\])+")
_LOGICAL = re.compile(r"(and|or)(?=[\s(])")
_NOT = re.compile(r"not\s*(?=\()")
OPERATORS = frozenset(
    "eq ne co sw ew gt lt ge le ap sa eb pr po ss sb in re".split()  # noqa: SIM905 - as in R4
)


class Comparison(NamedTuple):
    """`path operator value`."""

    path: str
    operator: str
    value: str


def parse(text: str, read: Callable[[Comparison], Criterion]) -> Criterion:
    """The criterion that `text` is; `read` says what one test means.

    Raises:
        InvalidSearch: it breaks the grammar, or `read` refuses a test.
    """
    reader = _Reader(text, read)
    found = reader.filter(0)
    if not reader.is_at_end:
        raise InvalidSearch("_filter: expected and, or, or the end")
    return found


class _Reader:
    def __init__(self, text: str, read: Callable[[Comparison], Criterion]) -> None:
        self._text = text
        self._read = read
        self._at = 0
        self._tests = 0

    @property
    def is_at_end(self) -> bool:
        self._take(_SPACE)
        return self._at == len(self._text)

    def filter(self, depth: int) -> Criterion:
        if depth > _DEEPEST:
            raise InvalidSearch("_filter: the parentheses are too deep")
        found = self._operand(depth)
        while True:
            self._take(_SPACE)
            logical = self._take(_LOGICAL)
            if logical is None:
                return found
            other = self._operand(depth)
            found = _joined(AllOf if logical == "and" else AnyOf, found, other)

    def _operand(self, depth: int) -> Criterion:
        self._take(_SPACE)
        if self._take(_NOT) is not None:
            return Not(self._inside(depth))
        if self._text.startswith("(", self._at):
            return self._inside(depth)
        return self._test()

    def _inside(self, depth: int) -> Criterion:
        self._at += 1
        found = self.filter(depth + 1)
        if not self._text.startswith(")", self._at):
            raise InvalidSearch("_filter: a parenthesis is not closed")
        self._at += 1
        return found

    def _test(self) -> Criterion:
        path = self._take(_PATH)
        if path is None:
            raise InvalidSearch("_filter: expected the name of a search parameter")
        if self._text.startswith("[", self._at):
            raise InvalidSearch("_filter: filters within a path are not supported")
        self._tests += 1
        if self._tests > MOST_TESTS:
            raise InvalidSearch(f"_filter: more than {MOST_TESTS} tests")
        self._expect_space()
        operator = self._take(_WORD) or ""
        if operator not in OPERATORS:
            raise InvalidSearch("_filter: expected an operator such as eq")
        self._expect_space()
        return self._read(Comparison(path, operator, self._value()))

    def _value(self) -> str:
        quoted = self._take(_STRING)
        if quoted is not None:
            try:
                value = parse_json(quoted.encode())
            except MalformedResource:
                raise InvalidSearch("_filter: a string is not written as in JSON") from None
            return str(value)
        if self._text.startswith('"', self._at):
            raise InvalidSearch("_filter: a string is not closed")
        token = self._take(_TOKEN)
        if token is None:
            raise InvalidSearch("_filter: expected a value")
        return token

    def _expect_space(self) -> None:
        if not self._take(_SPACE):
            raise InvalidSearch("_filter: expected name operator value, with spaces between")

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]


def _joined(kind: type[AllOf] | type[AnyOf], left: Criterion, right: Criterion) -> Criterion:
    """One list of criteria where `left` is of the kind already: chains of `or` stay flat."""
    if isinstance(left, kind):
        return kind((*left.criteria, right))
    return kind((left, right))
