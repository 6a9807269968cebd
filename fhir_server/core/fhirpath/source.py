"""Conditions and collections as Python expressions.

Generated text is made of our own names, and of property names and literals by `repr`,
so nothing that a client wrote is ever code.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import (
    Call,
    Constant,
    Expression,
    FhirPathError,
    IsType,
    Operation,
    Resolve,
)
from fhir_server.core.fhirpath.path import (
    Computed,
    Field,
    Filter,
    OfResource,
    Path,
    is_primitive,
    resolve,
)


class Writer:
    """Writes expressions about a focus; `root` names the type of the resource around it.

    The variable ``root`` holds that resource in the generated text.
    """

    def __init__(self, types: ElementTypes, root: str) -> None:
        self._types = types
        self._root = root
        self._variables = 0

    def variable(self) -> str:
        """A name that nothing else in this text has."""
        self._variables += 1
        return f"v{self._variables}"

    def condition(self, expression: Expression, type_name: str, focus: str) -> str:
        """True where `expression` is true of `focus`; any other value where it is not."""
        match expression:
            case Operation("and" | "or" as operator, left, right):
                first = self.condition(left, type_name, focus)
                second = self.condition(right, type_name, focus)
                return f"({first} {operator} {second})"
            case Operation("=", left, Constant(str() as text)):
                paths = resolve(left, self._types, type_name, self._root)
                match paths:
                    case (Path((Field(name, _, False),), _, False),):
                        return f"({focus}.get({name!r}) == {text!r})"
        return f"({self._truth(expression, type_name, focus)} is True)"

    def computed(self, expression: Expression, type_name: str, focus: str) -> str:
        """True, False, or None where FHIRPath gives an empty collection."""
        return self._truth(expression, type_name, focus)

    def _truth(self, expression: Expression, type_name: str, focus: str) -> str:
        def collection(of: Expression) -> str:
            return self._collection(of, type_name, focus)

        def truth(of: Expression) -> str:
            return self._truth(of, type_name, focus)

        match expression:
            case Operation("and", left, right):
                return f"both({truth(left)}, {truth(right)})"
            case Operation("or", left, right):
                return f"either({truth(left)}, {truth(right)})"
            case Operation("implies", left, right):
                return f"either(opposite({truth(left)}), {truth(right)})"
            case Operation("<" | "<=" | ">" | ">=" as operator, left, right):
                # Texts, dates and quantities are ordered by rules of their own.
                if not (_is_number(left) or _is_number(right)):
                    raise FhirPathError("only numbers are compared here")
                return f"compared({operator!r}, {collection(left)}, {collection(right)})"
            case Operation("=", left, right):
                return f"equal({collection(left)}, {collection(right)})"
            case Operation("!=", left, right):
                return f"opposite(equal({collection(left)}, {collection(right)}))"
            case Call(source, "exists"):
                return f"(len({collection(source)}) > 0)"
            case Call(source, "empty"):
                return f"(len({collection(source)}) == 0)"
            case Call(source, "hasValue"):
                return f"(len({collection(source)}) == 1)"
            case Call(source, "not"):
                return f"opposite({truth(source)})"
            case IsType(Resolve(source), resource_type):
                return f"refers({collection(source)}, {resource_type!r})"
            case IsType(source, wanted):
                paths = resolve(source, self._types, type_name, self._root)
                of_type = tuple(p for p in paths if p.type_name == wanted)
                return f"alone({self._list(paths, focus)}, {self._list(of_type, focus)})"
            case Constant(bool() as value):
                return repr(value)
            case _:
                return f"single({collection(expression)})"

    def _collection(self, expression: Expression, type_name: str, focus: str) -> str:
        match expression:
            case Constant(Decimal() as number):
                return f"[Decimal({str(number)!r})]"
            case Constant(value):
                return f"[{value!r}]"
            case Call(source, "count"):
                return f"[len({self._collection(source, type_name, focus)})]"
            case Call(source, "length"):
                return f"lengths({self._collection(source, type_name, focus)})"
            case Call(source, "toString"):
                return f"texts({self._collection(source, type_name, focus)})"
            case Operation() | Call() | IsType():
                return f"one({self._truth(expression, type_name, focus)})"
            case Resolve():
                raise FhirPathError("resolve() can only be asked for its type")
        return self._list(resolve(expression, self._types, type_name, self._root), focus)

    def _list(self, paths: Sequence[Path], focus: str) -> str:
        if not paths:
            return "[]"
        return "[" + ", ".join(f"*{self._items(path, focus)}" for path in paths) + "]"

    def _items(self, path: Path, focus: str) -> str:
        current = "root" if path.is_from_root else focus
        clauses: list[str] = []
        for step in path.steps:
            match step:
                case Field(name, type_name, is_list, index):
                    source = f"{current}.get({name!r})"
                    current = self.variable()
                    if index is not None:
                        clauses.append(f"for {current} in ({source} or [])[{index}:{index + 1}]")
                    elif is_list:
                        clauses.append(f"for {current} in {source} or []")
                    else:
                        clauses.append(f"for {current} in one({source})")
                    if is_list and is_primitive(type_name):
                        clauses.append(f"if {current} is not None")
                case Filter(condition, type_name):
                    clauses.append(f"if {self.condition(condition, type_name, current)}")
                case OfResource(resource_type):
                    clauses.append(f"if {current}.get('resourceType') == {resource_type!r}")
                case Computed(expression, type_name):
                    return f"one({self._truth(expression, type_name, current)})"
        return f"[{current} {' '.join(clauses)}]" if clauses else f"[{current}]"


def _is_number(expression: Expression) -> bool:
    return isinstance(expression, Constant) and not isinstance(expression.value, bool | str)


def _compared(operator: str, left: Sequence[Any], right: Sequence[Any]) -> bool | None:
    if len(left) != 1 or len(right) != 1:
        return None
    if not (isinstance(left[0], int | Decimal) and isinstance(right[0], int | Decimal)):
        return None
    difference = left[0] - right[0]
    if operator == "<":
        return bool(difference < 0)
    if operator == "<=":
        return bool(difference <= 0)
    return bool(difference > 0 if operator == ">" else difference >= 0)


def _lengths(items: Sequence[Any]) -> Sequence[int]:
    return [len(item) for item in items if isinstance(item, str)]


def _texts(items: Sequence[Any]) -> Sequence[str]:
    return [item for item in items if isinstance(item, str)]


def _both(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _either(left: bool | None, right: bool | None) -> bool | None:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def _opposite(value: bool | None) -> bool | None:
    return None if value is None else not value


def _equal(left: Sequence[Any], right: Sequence[Any]) -> bool | None:
    if not left or not right:
        return None
    return len(left) == len(right) and all(
        a == b and isinstance(a, bool) == isinstance(b, bool)
        for a, b in zip(left, right, strict=True)
    )


def _single(items: Sequence[Any]) -> bool | None:
    if len(items) != 1:
        return None
    return items[0] if isinstance(items[0], bool) else True


def _one(value: Any) -> Sequence[Any]:
    return () if value is None else (value,)


def _alone(items: Sequence[Any], of_type: Sequence[Any]) -> bool | None:
    return None if len(items) != 1 else len(of_type) == 1


def _refers(items: Sequence[Any], resource_type: str) -> bool | None:
    """Whether the one Reference says it is to a resource of that type."""
    if len(items) != 1:
        return None
    (reference,) = items
    text = reference.get("reference") or ""
    return (
        text.startswith(f"{resource_type}/")
        or f"/{resource_type}/" in text
        or reference.get("type") == resource_type
    )


NAMES: Mapping[str, Any] = {
    "Decimal": Decimal,
    "compared": _compared,
    "lengths": _lengths,
    "texts": _texts,
    "both": _both,
    "either": _either,
    "opposite": _opposite,
    "equal": _equal,
    "single": _single,
    "one": _one,
    "alone": _alone,
    "refers": _refers,
    "len": len,
    "True": True,
    "False": False,
    "None": None,
}
"""What the generated text may name; it sees nothing else, no built-ins either."""
