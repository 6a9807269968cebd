"""FHIRPath text to `Expression`.

https://hl7.org/fhirpath/N1/#grammar. Precedence, loosest first: implies, or, and,
equality, inequality, union, type, invocation.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

from fhir_server.core.fhirpath.expression import (
    Alternatives,
    Call,
    Constant,
    Expression,
    FhirPathError,
    Focus,
    IsType,
    Item,
    Member,
    Name,
    OfType,
    Operation,
    Resolve,
    Root,
    Where,
    alternatives,
)

_MAX_LENGTH = 20_000
_MAX_DEPTH = 20
_MAX_STEPS = 20

_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z0-9_\-]+`)"
    r"|(?P<string>'(?:[^'\\]|\\.)*')"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<variable>\$this|%resource|%context)"
    r"|(?P<operator>!=|<=|>=|[=<>|.()\[\],]))",
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_CALLS = frozenset({"exists", "empty", "not", "hasValue", "count", "length", "toString"})


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        FhirPathError: it is none, or uses what is not compiled here; the message says
            where.
    """
    if len(text) > _MAX_LENGTH:
        raise FhirPathError("the expression is too long")
    reader = _Reader(text)
    expression = reader.expression()
    reader.end()
    return expression


class _Reader:
    """A cursor over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise FhirPathError(f"unexpected character at position {position + 1}")
            self._tokens.append((found.lastgroup, found[found.lastgroup], found.start()))
            position = found.end()
        self._next = 0
        self._depth = 0

    def expression(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FhirPathError("the expression is nested too deeply")
        left = self._disjunction()
        for _ in self._limited():
            if not self._accept("name", "implies"):
                break
            left = Operation("implies", left, self._disjunction())
        self._depth -= 1
        return left

    def end(self) -> None:
        if self._next < len(self._tokens):
            raise self._unexpected()

    def _disjunction(self) -> Expression:
        left = self._conjunction()
        for _ in self._limited():
            if not self._accept("name", "or"):
                break
            left = Operation("or", left, self._conjunction())
        return left

    def _conjunction(self) -> Expression:
        left = self._equality()
        for _ in self._limited():
            if not self._accept("name", "and"):
                break
            left = Operation("and", left, self._equality())
        return left

    def _equality(self) -> Expression:
        left = self._inequality()
        for _ in self._limited():
            if (operator := self._accept("operator", "=", "!=")) is None:
                break
            left = Operation(operator, left, self._inequality())
        return left

    def _inequality(self) -> Expression:
        left = self._union()
        for _ in self._limited():
            if (operator := self._accept("operator", "<", "<=", ">", ">=")) is None:
                break
            left = Operation(operator, left, self._union())
        return left

    def _union(self) -> Expression:
        items = [self._typed()]
        while self._accept("operator", "|"):
            items.append(self._typed())
        if len(items) == 1:
            return items[0]
        return Alternatives(tuple(found for item in items for found in alternatives(item)))

    def _typed(self) -> Expression:
        left = self._invocation()
        for _ in self._limited():
            if (operator := self._accept("name", "is", "as")) is None:
                break
            type_name = self._type_name()
            left = IsType(left, type_name) if operator == "is" else OfType(left, type_name)
        return left

    def _invocation(self) -> Expression:
        source = self._term()
        for _ in self._limited():
            if self._accept("operator", "."):
                source = self._step(source)
            elif self._accept("operator", "["):
                source = Item(source, self._index())
                self._expect("operator", "]")
            else:
                break
        return source

    def _index(self) -> int:
        text = self._expect("number")
        if not text.isdigit() or len(text) > 6:
            raise FhirPathError("an index is a small whole number")
        return int(text)

    def _term(self) -> Expression:
        if self._accept("operator", "("):
            inner = self.expression()
            self._expect("operator", ")")
            return inner
        if (text := self._accept("string")) is not None:
            return Constant(_unquote(text))
        if (text := self._accept("number")) is not None:
            return Constant(Decimal(text) if "." in text else int(text))
        if (text := self._accept("variable")) is not None:
            return Focus() if text == "$this" else Root()
        name = self._expect("name")
        if name in ("true", "false"):
            return Constant(name == "true")
        if self._peek() == "(":
            return self._function(Focus(), name)
        return Name(name.strip("`"))

    def _step(self, source: Expression) -> Expression:
        name = self._expect("name")
        if self._peek() == "(":
            return self._function(source, name)
        return Member(source, name.strip("`"))

    def _function(self, source: Expression, name: str) -> Expression:
        self._expect("operator", "(")
        found = self._call(source, name)
        self._expect("operator", ")")
        return found

    def _call(self, source: Expression, name: str) -> Expression:
        if name in ("as", "ofType"):
            return OfType(source, self._type_name())
        if name == "is":
            return IsType(source, self._type_name())
        if name == "where":
            return Where(source, self.expression())
        if name in ("extension", "hasExtension"):
            url = Constant(_unquote(self._expect("string")))
            found = Where(Member(source, "extension"), Operation("=", Name("url"), url))
            return found if name == "extension" else Call(found, "exists")
        if name == "resolve":
            return Resolve(source)
        if name == "first":
            return Item(source, 0)
        if name == "exists" and self._peek() != ")":
            return Call(Where(source, self.expression()), "exists")
        if name in _CALLS:
            return Call(source, name)
        raise FhirPathError(f"the function {name}() is not supported")

    def _type_name(self) -> str:
        name = self._expect("name").strip("`")
        if name in ("FHIR", "System") and self._accept("operator", "."):
            name = self._expect("name").strip("`")
        return name

    def _limited(self) -> Iterator[None]:
        """Turns of a loop that nests one expression in another, up to what is sane."""
        for _ in range(_MAX_STEPS + 1):
            yield
        raise FhirPathError("the expression has too many steps")

    def _peek(self) -> str | None:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else None

    def _accept(self, kind: str, *texts: str) -> str | None:
        if self._next < len(self._tokens):
            found, text, _ = self._tokens[self._next]
            if found == kind and (not texts or text in texts):
                self._next += 1
                return text
        return None

    def _expect(self, kind: str, *texts: str) -> str:
        found = self._accept(kind, *texts)
        if found is None:
            raise self._unexpected()
        return found

    def _unexpected(self) -> FhirPathError:
        if self._next < len(self._tokens):
            return FhirPathError(f"unexpected text at position {self._tokens[self._next][2] + 1}")
        return FhirPathError("the expression ends too early")


def _unquote(text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        escape = found[1]
        if len(escape) == 5:
            return chr(int(escape[1:], 16))
        return _ESCAPES.get(escape, escape)

    return _ESCAPE.sub(replace, text[1:-1])
