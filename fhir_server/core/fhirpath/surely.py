"""What is surely so, as plain Python: for a quick look that may also say that it is not sure.

FHIRPath knows true, false and nothing at all. Here a text is true only where the expression
is (or is false), so `and`, `or` and `not` are Python's own, and nothing is collected. It is
about values whose structure is right: no property is null, no list empty.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import (
    Call,
    Constant,
    Expression,
    FhirPathError,
    Operation,
)
from fhir_server.core.fhirpath.path import Field, Path, is_primitive, resolve

_PLAIN_TEXTS = frozenset(
    {"canonical", "code", "id", "markdown", "oid", "string", "uri", "url", "uuid"}
)
_TEXTS = _PLAIN_TEXTS | {"date", "dateTime", "instant", "time"}
_ORDERS = frozenset({"<", "<=", ">", ">="})
# Beyond so many names one look into a set is faster.
_FEW = 2


class Surely:
    """Writes texts about `focus`, a variable that holds a value of `type_name`.

    `root` is the type of the resource around; `name` gives a name to a value that a text
    needs. A text is None where nothing is written for the expression.
    """

    def __init__(
        self,
        types: ElementTypes,
        type_name: str,
        root: str,
        focus: str,
        name: Callable[[Any], str],
    ) -> None:
        self._types = types
        self._type_name = type_name
        self._root = root
        self._focus = focus
        self._name = name

    def true(self, expression: Expression) -> str | None:
        """True only where `expression` is true."""
        match expression:
            case Operation("and", left, right):
                return _both(self.true(left), self.true(right))
            case Operation("or", left, right):
                return _either(self.true(left), self.true(right))
            case Operation("implies", left, right):
                return _either(self.false(left), self.true(right))
            case Operation("=", left, Constant(str() as text)):
                return self._text(left, f"== {text!r}", "{}", _PLAIN_TEXTS)
            case Operation(operator, Call(source, "length"), Constant(int() as number)):
                if operator not in _ORDERS or isinstance(number, bool):
                    return None
                return self._text(source, f"{operator} {number}", "len({})", _TEXTS)
            case Call(source, "exists"):
                return self._among(source, is_there=True)
            case Call(source, "empty"):
                return self._among(source, is_there=False)
            case Call(source, "not"):
                return self.false(source)
            case Constant(True):
                return "True"
        return None

    def false(self, expression: Expression) -> str | None:
        """True only where `expression` is false."""
        match expression:
            case Operation("and", left, right):
                return _either(self.false(left), self.false(right))
            case Operation("or", left, right):
                return _both(self.false(left), self.false(right))
            case Operation("implies", left, right):
                return _both(self.true(left), self.false(right))
            case Operation("=", left, Constant(str() as text)):
                return self._text(left, f"!= {text!r}", "{}", _PLAIN_TEXTS)
            case Call(source, "exists"):
                return self._among(source, is_there=False)
            case Call(source, "empty"):
                return self._among(source, is_there=True)
            case Call(source, "not"):
                return self.true(source)
        return None

    def _among(self, source: Expression, *, is_there: bool) -> str | None:
        """Whether anything, or nothing, is at the ends of the paths of `source`."""
        paths = self._paths(source)
        if paths is None:
            return None
        by_holder: dict[str, list[str]] = {}
        for path in paths:
            steps = _plain(path)
            if not steps:
                return None
            keys = by_holder.setdefault(self._holder(steps), [])
            keys.append(steps[-1].name)
            if is_primitive(path.type_name):
                # Extensions alone are something, too.
                keys.append("_" + steps[-1].name)
        found = [self._any_of(keys, holder, is_there) for holder, keys in by_holder.items()]
        joint, nothing = (" or ", "False") if is_there else (" and ", "True")
        return f"({joint.join(found)})" if found else nothing

    def _any_of(self, keys: Sequence[str], holder: str, is_there: bool) -> str:
        if len(keys) > _FEW:
            text = f"{self._name(frozenset(keys))}.isdisjoint({holder})"
            return f"not {text}" if is_there else text
        word, joint = ("in", " or ") if is_there else ("not in", " and ")
        return f"({joint.join(f'{key!r} {word} {holder}' for key in keys)})"

    def _text(
        self, source: Expression, compared: str, form: str, type_names: Iterable[str]
    ) -> str | None:
        """A comparison with one text that is there and has no extensions."""
        while isinstance(source, Call) and source.function == "toString":
            source = source.source
        path = self._single(source)
        if path is None or path.type_name not in type_names:
            return None
        if not path.steps:
            return f"({form.format(self._focus)} {compared})"
        steps = _plain(path)
        if steps is None or steps[-1].is_list:
            return None
        holder, key = self._holder(steps), steps[-1].name
        value = form.format(f"{holder}[{key!r}]")
        return f"({key!r} in {holder} and {value} {compared} and {'_' + key!r} not in {holder})"

    def _single(self, source: Expression) -> Path | None:
        paths = self._paths(source)
        return paths[0] if paths is not None and len(paths) == 1 else None

    def _paths(self, source: Expression) -> Sequence[Path] | None:
        try:
            paths = resolve(source, self._types, self._type_name, self._root)
        except FhirPathError:
            return None
        return None if any(path.is_from_root for path in paths) else paths

    def _holder(self, path: Sequence[Field]) -> str:
        holder = self._focus
        for step in path[:-1]:
            holder += f".get({step.name!r}, nothing)"
        return holder


def _plain(path: Path) -> Sequence[Field] | None:
    """The fields of a path of which only the last may repeat."""
    fields = [step for step in path.steps if isinstance(step, Field) and step.index is None]
    if len(fields) < len(path.steps) or any(step.is_list for step in fields[:-1]):
        return None
    return fields


def _both(left: str | None, right: str | None) -> str | None:
    return None if left is None or right is None else f"({left} and {right})"


def _either(left: str | None, right: str | None) -> str | None:
    if left is None or right is None:
        return left if right is None else right
    return f"({left} or {right})"
