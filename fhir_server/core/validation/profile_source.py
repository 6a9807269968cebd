"""Source: the text of one Python function as it is written, and what it names.

The text is made of our own names, and of literals by `repr`, so nothing that a profile says
is ever code.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from fhir_server.core.validation.profile_value import equals

_MOST_LINES = 5_000
_NAMES = {
    "any": any,
    "equals": equals,
    "len": len,
    "nothing": MappingProxyType({}),
}


class Source:
    """Statements that return False where something is not surely so."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, Any] = {"__builtins__": {}, **_NAMES}
        self._by_id: dict[int, str] = {}
        self._variables = 0

    def line(self, depth: int, text: str) -> None:
        self._lines.append(" " * depth + text)

    def unless(self, condition: str, depth: int, place: int | None = None) -> None:
        """Return False unless the condition is true; `place` puts that before what is there."""
        at = len(self._lines) if place is None else place
        self._lines.insert(at, " " * depth + f"if not ({condition}): return False")

    def place(self) -> int:
        """Where the next statement will stand."""
        return len(self._lines)

    def variable(self) -> str:
        """A name that nothing else in this text has."""
        self._variables += 1
        return f"v{self._variables}"

    def name(self, value: Any) -> str:
        """The name of a value that the text needs."""
        known = self._by_id.get(id(value))
        if known is None:
            known = self._by_id[id(value)] = f"c{len(self._by_id)}"
            self._names[known] = value
        return known

    def contains(self, pattern: Any, value: str) -> str:
        """Whether the variable `value` has all that a pattern says."""
        match pattern:
            case str():
                return f"{value} == {pattern!r}"
            case dict():
                parts = (self._part(value, name, part) for name, part in pattern.items())
                return f"({' and '.join(parts)})" if pattern else "True"
            case list():
                item = self.variable()
                parts = (
                    f"any([True for {item} in {value} if {self.contains(part, item)}])"
                    for part in pattern
                )
                return f"({' and '.join(parts)})" if pattern else "True"
        return f"equals({value}, {self.name(pattern)})"

    def _part(self, value: str, name: str, part: Any) -> str:
        if isinstance(part, dict | list):
            inside = f"{value}.get({name!r}, {'nothing' if isinstance(part, dict) else '()'})"
            return self.contains(part, inside)
        return self.contains(part, f"{value}.get({name!r})")

    def compile(
        self, name: str, arguments: Sequence[str], result: str
    ) -> Callable[..., bool] | None:
        """The function; None if its text is more than Python takes."""
        if len(self._lines) > _MOST_LINES:
            return None
        text = "\n".join(
            (f"def {name}({', '.join(arguments)}):", *self._lines, f" return {result}")
        )
        try:
            exec(compile(text, f"<{name}>", "exec"), self._names)  # noqa: S102 - our own text
        except (SyntaxError, RecursionError, MemoryError):
            return None
        made: Callable[..., bool] = self._names[name]
        return made
