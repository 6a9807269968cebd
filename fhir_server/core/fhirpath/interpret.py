"""FHIRPath beyond what is compiled here, interpreted by a library.

https://hl7.org/fhir/R4/fhirpath.html. What FHIR adds to FHIRPath and the library does not have
is added, and its regular expressions are replaced: those can be made to run for ever.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import fhirpathpy
from antlr4.error.Errors import ParseCancellationException, RecognitionException
from fhirpathpy.engine.nodes import ResourceNode
from fhirpathpy.models import models

from fhir_server.core.fhirpath import pattern
from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.fhirpath.pattern import PatternRefused

# Reading an expression takes the library up to 0.4 ms for a character.
_LONGEST = 2_000
_NOT_IMPLEMENTED = "Not implemented: "

# What comes of an expression and a value that do not fit each other. The library's own
# refusals are no class of their own.
_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    ParseCancellationException,
    RecognitionException,
    RuntimeError,
    TypeError,
    ValueError,
)


class NotEvaluated(FhirPathError):
    """An expression that cannot be evaluated here; the message names no value."""


def evaluate(
    expression: str, type_name: str, value: Any, sibling: Any, variables: Mapping[str, Any]
) -> Sequence[Any]:
    """What `expression` gives for a value of `type_name`; `sibling` is what ``_name`` holds.

    `variables` are what it may call ``%name``.

    Raises:
        NotEvaluated: it gives nothing that could be told.
    """
    if len(expression) > _LONGEST:
        raise NotEvaluated("it is too long")
    compiled = _compile(expression)
    if isinstance(compiled, str):
        raise NotEvaluated(compiled)
    try:
        focus = ResourceNode.create_node(value, type_name, sibling)  # type: ignore[no-untyped-call]
        return compiled(focus, variables)
    except PatternRefused as refused:
        raise NotEvaluated(f"of its regular expression: {refused}") from None
    except Exception as error:
        raise NotEvaluated(_reason(error)) from None


@lru_cache(maxsize=2_048)
def _compile(expression: str) -> Callable[..., list[Any]] | str:
    """A function of a value and the variables, or why there is none."""
    try:
        made: Callable[..., list[Any]] = fhirpathpy.compile(expression, models["r4"], _OPTIONS)
    except Exception as error:
        return _reason(error)
    return made


def _reason(error: Exception) -> str:
    """Raises `error` itself if neither an expression nor a value can be to blame."""
    if type(error) is not Exception and not isinstance(error, _FAULTS):
        raise error
    text = str(error)
    name = text.removeprefix(_NOT_IMPLEMENTED)
    if name != text and name.isidentifier():
        return f"it uses {name[:64]}()"
    if isinstance(error, ParseCancellationException | RecognitionException):
        return "it is no FHIRPath"
    return "it is no FHIRPath, or not for such a value"


def _has_value(items: Sequence[Any]) -> list[bool]:
    values = [item.data if isinstance(item, ResourceNode) else item for item in items]
    return [len(values) == 1 and values[0] is not None and not isinstance(values[0], dict | list)]


def _matches(items: Sequence[Any], expression: Any) -> list[bool]:
    if not expression or not items:
        return []
    return [pattern.matches(_single(items), expression)]


def _replace_matches(items: Sequence[Any], expression: Any, substitution: Any) -> list[str]:
    if not isinstance(expression, str) or not isinstance(substitution, str) or not items:
        return []
    return [pattern.replace_matches(_single(items), expression, substitution)]


def _single(items: Sequence[Any]) -> str:
    if len(items) != 1 or not isinstance(items[0], str):
        raise TypeError("one text is needed")
    return items[0]


def _no_trace(_label: str, _items: list[Any]) -> None:
    """What is traced is a resource's: the library would print it."""


_OPTIONS = {
    "traceFn": _no_trace,
    "userInvocationTable": {
        "hasValue": {"fn": _has_value, "arity": {0: []}},
        "matches": {"fn": _matches, "arity": {1: ["String"]}, "nullable_input": True},
        "replaceMatches": {
            "fn": _replace_matches,
            "arity": {2: ["String", "String"]},
            "nullable_input": True,
        },
    },
}
