"""JMESPath, compiled once: https://jmespath.org/specification.html

An expression looks into the record at hand; one that begins with ``$.`` looks into the
whole payload. Field paths, comparisons, calls and their combinations become closures over
dict look-ups, several times faster than the library's tree walk and with the same answers;
all else is the library's. A wrong type inside an expression is null, as no match is.

Numbers are exact: the payload's decimals are `Decimal`, and so are literals here.
"""

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import jmespath
from jmespath import exceptions, functions, visitor

Look = Callable[[Any], Any]
Test = Callable[[Any], bool]
Expression = Callable[[Any, Any], Any]
"""What a compiled expression is: (record, payload) -> value or None."""

_ROOT = "$."


class InvalidExpressionError(ValueError):
    """Not JMESPath; `column` counts from 0 inside the text."""

    def __init__(self, reason: str, column: int = 0) -> None:
        super().__init__(reason)
        self.column = column


def compile_expression(text: str) -> Expression:
    """What `text` finds, given a record and the payload it is part of.

    Raises:
        InvalidExpressionError: `text` cannot be read.
    """
    if text.startswith(_ROOT):
        look = compile_look(text[len(_ROOT) :])
        return lambda record, payload: look(payload)
    look = compile_look(text)
    return lambda record, payload: look(record)


def compile_condition(text: str) -> Callable[[Any, Any], bool]:
    """Whether `text` finds something true: not null, false or empty. 0 is true, as JMESPath has it.

    Raises:
        InvalidExpressionError: `text` cannot be read.
    """
    is_rooted = text.startswith(_ROOT)
    node = _exact(_parse(text.removeprefix(_ROOT)))
    test = _compile_test(node) or _truth(_compile(node) or _interpreted(node))
    if is_rooted:
        return lambda record, payload: test(payload)
    return lambda record, payload: test(record)


def plain_path(text: str) -> tuple[str, ...] | None:
    """The field names of an expression that is only a path, else None.

    Raises:
        InvalidExpressionError: `text` cannot be read.
    """
    return _field_names(_parse(text.removeprefix(_ROOT)))


def compile_look(text: str) -> Look:
    """What JMESPath's `search(text, value)` answers, with numbers kept exact.

    Raises:
        InvalidExpressionError: `text` cannot be read.
    """
    node = _exact(_parse(text))
    return _compile(node) or _interpreted(node)


def _parse(text: str) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], jmespath.compile(text).parsed)
    except exceptions.EmptyExpressionError:
        raise InvalidExpressionError("the expression is empty") from None
    except (exceptions.LexerError, exceptions.ParseError) as error:
        column = getattr(error, "lex_position", None) or getattr(error, "lexer_position", 0) or 0
        raise InvalidExpressionError(f"not JMESPath: {_first_line(error)}", column) from None
    except exceptions.JMESPathError as error:
        raise InvalidExpressionError(f"not JMESPath: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(": ")


def _exact(node: Any) -> Any:
    """A copy of the tree (the library shares its own) whose literals hold Decimals."""
    if isinstance(node, dict):
        if node.get("type") == "literal":
            return {**node, "value": _exact_literal(node["value"])}
        if node.get("type") == "function_expression":
            _check_function(node)
        return {**node, "children": [_exact(child) for child in node.get("children", [])]}
    return node


def _exact_literal(value: Any) -> Any:
    match value:
        case float():
            return Decimal(repr(value))
        case list():
            return [_exact_literal(part) for part in value]
        case dict():
            return {name: _exact_literal(part) for name, part in value.items()}
        case _:
            return value


def _check_function(node: dict[str, Any]) -> None:
    name = node["value"]
    table = _ExactFunctions.FUNCTION_TABLE
    if name not in table:
        raise InvalidExpressionError(f"there is no function {name}()")
    signature = table[name]["signature"]
    is_variadic = bool(signature) and signature[-1].get("variadic", False)
    count = len(node["children"])
    if count < len(signature) or (count > len(signature) and not is_variadic):
        raise InvalidExpressionError(f"{name}() takes {len(signature)} arguments, not {count}")


def _field_names(node: dict[str, Any]) -> tuple[str, ...] | None:
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] == "subexpression":
        parts = [_field_names(child) for child in node["children"]]
        if all(parts):
            return tuple(name for part in parts for name in part or ())
    return None


def _compile(node: dict[str, Any]) -> Look | None:
    """A closure with the interpreter's answers, or None where this subset does not reach."""
    names = _field_names(node)
    if names is not None:
        return _field(names[0]) if len(names) == 1 else _fields(names)
    kind = node["type"]
    if kind == "function_expression":
        return _call(node)
    if kind == "current":
        return lambda value: value
    if kind == "literal":
        literal = node["value"]
        return lambda value: literal
    if kind in ("comparator", "and_expression", "or_expression", "not_expression"):
        parts = [_compile(child) for child in node["children"]]
        if None not in parts:
            return _combine(node, cast(list[Look], parts))
    return None


def _field(name: str) -> Look:
    def look(value: Any) -> Any:
        return value.get(name) if type(value) is dict else None

    return look


def _fields(names: tuple[str, ...]) -> Look:
    def look(value: Any) -> Any:
        for name in names:
            if type(value) is not dict:
                return None
            value = value.get(name)
        return value

    return look


def _call(node: dict[str, Any]) -> Look | None:
    parts = [_compile(child) for child in node["children"]]
    if None in parts:
        return None
    name, arguments = node["value"], cast(list[Look], parts)
    if name == "not_null":
        return _first_not_null(arguments)
    if name in ("starts_with", "ends_with"):
        return _affix(str.startswith if name == "starts_with" else str.endswith, *arguments)
    return lambda value: _answer(name, [look(value) for look in arguments])


def _first_not_null(arguments: list[Look]) -> Look:
    def look(value: Any) -> Any:
        for argument in arguments:
            found = argument(value)
            if found is not None:
                return found
        return None

    return look


def _affix(has: Callable[[str, str], bool], whole: Look, affix: Look) -> Look:
    def look(value: Any) -> bool | None:
        text, part = whole(value), affix(value)
        if isinstance(text, str) and isinstance(part, str):
            return has(text, part)
        return None

    return look


def _answer(name: str, arguments: list[Any]) -> Any:
    try:
        return _FUNCTIONS.call_function(name, arguments)
    except _TYPE_ERRORS:
        return None


def _combine(node: dict[str, Any], parts: list[Look]) -> Look:
    match node["type"]:
        case "not_expression":
            inner = parts[0]
            return lambda value: _negate(inner(value))
        case "and_expression":
            left, right = parts
            return lambda value: first if _is_false(first := left(value)) else right(value)
        case "or_expression":
            left, right = parts
            return lambda value: right(value) if _is_false(first := left(value)) else first
        case _:
            return _compare(node["value"], *parts)


def _compare(operator: str, left: Look, right: Look) -> Look:
    compare = visitor.TreeInterpreter.COMPARATOR_FUNC[operator]
    if operator in ("eq", "ne"):
        return lambda value: compare(left(value), right(value))

    def order(value: Any) -> Any:
        first, second = left(value), right(value)
        if _is_number(first) and _is_number(second):
            return compare(first, second)
        if isinstance(first, str) and isinstance(second, str):
            return compare(first, second)
        return None

    return order


def _compile_test(node: dict[str, Any]) -> Test | None:
    """What conditions mostly are, a field that is some text or another, without detours."""
    kind = node["type"]
    if kind == "or_expression":
        parts = [_compile_test(child) for child in node["children"]]
        if None not in parts:
            left, right = cast(list[Test], parts)
            return lambda value: left(value) or right(value)
    elif kind == "comparator" and node["value"] == "eq":
        first, second = node["children"]
        if second["type"] == "literal" and type(second["value"]) is str:
            return _is_text(_compile(first), second["value"])
    elif kind == "function_expression":
        look = _compile(node)
        return _truth(look) if look else None
    return None


def _is_text(look: Look | None, text: str) -> Test | None:
    if look is None:
        return None
    return lambda value: bool(look(value) == text)


def _truth(look: Look) -> Test:
    return lambda value: not _is_false(look(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_false(value: Any) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}


def _negate(value: Any) -> bool:
    if _is_number(value) and value == 0:
        return False
    return not value


def _interpreted(node: dict[str, Any]) -> Look:
    def look(value: Any) -> Any:
        # One interpreter a call: it keeps state, and payloads are read in several threads.
        try:
            return _Interpreter(_OPTIONS).visit(cast(Any, node), value)
        except _TYPE_ERRORS:
            return None

    return look


class _Interpreter(visitor.TreeInterpreter):
    """The library's, where a wrong type is null at its place, as in the closures."""

    def visit_comparator(self, node: Any, value: Any) -> Any:
        try:
            return super().visit_comparator(node, value)
        except TypeError:
            return None

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        try:
            return super().visit_function_expression(node, value)
        except _TYPE_ERRORS:
            return None


class _ExactFunctions(functions.Functions):
    """The library's functions, taught that a Decimal is a number."""

    def _get_allowed_pytypes(self, types: list[str]) -> tuple[list[str], list[tuple[str, ...]]]:
        allowed, subtypes = super()._get_allowed_pytypes(types)  # type: ignore[misc] # not in stubs
        if "float" in allowed:
            allowed.append("Decimal")
        return allowed, [(*s, "Decimal") if "float" in s else s for s in subtypes]

    @functions.signature({"types": []})
    def _func_to_number(self, arg: Any) -> Any:
        if isinstance(arg, str):
            try:
                number = Decimal(arg)
            except InvalidOperation:
                return None
            return number if number.is_finite() else None
        return arg if _is_number(arg) else None

    @functions.signature({"types": []})
    def _func_to_string(self, arg: Any) -> str:
        if isinstance(arg, str):
            return arg
        return json.dumps(arg, separators=(",", ":"), default=str)

    @functions.signature({"types": []})
    def _func_type(self, arg: Any) -> Any:
        return "number" if isinstance(arg, Decimal) else super()._func_type(arg)  # type: ignore[misc]


_FUNCTIONS = _ExactFunctions()
_OPTIONS = visitor.Options(custom_functions=_FUNCTIONS)
_TYPE_ERRORS = (exceptions.JMESPathError, TypeError, ValueError, ArithmeticError)
