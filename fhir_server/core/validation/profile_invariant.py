"""Invariants of profiles: FHIRPath that is compiled here where it can be, else interpreted.

What is compiled only ever says that a resource is good: where it does not, where a primitive
has an id or extensions, and where the expression uses more than is compiled, the library
decides, some hundred times slower. https://hl7.org/fhir/R4/fhirpath.html
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import fhirpathpy
from fhirpathpy.engine.nodes import ResourceNode
from fhirpathpy.models import models

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.source import NAMES, Writer
from fhir_server.core.validation.profile import Rule
from fhir_server.core.validation.profile_run import Run, Where

_LONGEST = 20_000
_LONGEST_TOLD = 300
_FAULTS = (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError)


def _has_value(items: list[Any]) -> list[bool]:
    values = [item.data if isinstance(item, ResourceNode) else item for item in items]
    return [len(values) == 1 and values[0] is not None and not isinstance(values[0], dict | list)]


# What FHIR adds to FHIRPath and the library does not have.
# `trace()` would print what it is given, a patient's data, where the log goes.
_OPTIONS = {
    "userInvocationTable": {"hasValue": {"fn": _has_value, "arity": {0: []}}},
    "traceFn": lambda _label, _value: None,
}

Check = Callable[[Any, Any, Where, Run], None]
"""A value, what stands beside it as ``_name``, its place, and the run."""


def compile_rule(
    rule: Rule, profile: str, types: ElementTypes, type_name: str, root_type: str
) -> Check:
    """A check of one invariant on values of `type_name` within resources of `root_type`."""
    fast = _compile_own(rule.expression, types, type_name, root_type)
    text = rule.human[:_LONGEST_TOLD]
    is_about_absence = "hasValue" in rule.expression or "extension" in rule.expression
    is_error = rule.severity == "error"

    def check(value: Any, sibling: Any, where: Where, run: Run) -> None:
        if value is None and not is_about_absence:
            # Only extensions: what is said of the value comes to nothing. The library would
            # make a text of it.
            return
        if fast is not None and not run.has_siblings:
            try:
                if fast(value, run.root) is True:
                    return
            except _FAULTS:
                # A resource whose structure is broken as well; the library says what it can.
                pass
        try:
            is_kept = _interpret(rule.expression, type_name, value, sibling, run)
        except Exception:
            told = "the rule cannot be evaluated here, so nobody knows whether it is kept"
            run.add("informational", told, where, profile, rule.key, "information")
            return
        if not is_kept:
            severity = "error" if is_error else "warning"
            run.add("invariant", text, where, profile, rule.key, severity)  # type: ignore[arg-type]

    return check


def _compile_own(
    expression: str, types: ElementTypes, type_name: str, root_type: str
) -> Callable[[Any, Any], Any] | None:
    try:
        source = Writer(types, root_type).computed(parse(expression), type_name, "focus")
        made = eval(  # noqa: S307 - text of our own making, as in `walk`
            compile(f"lambda focus, root: {source}", "<invariant>", "eval"),
            {"__builtins__": {}, **NAMES},
        )
    except (FhirPathError, SyntaxError, RecursionError, MemoryError):
        return None
    fast: Callable[[Any, Any], Any] = made
    return fast


@lru_cache(maxsize=2_048)
def _interpreted(expression: str) -> Callable[..., list[Any]]:
    if len(expression) > _LONGEST:
        raise ValueError("the expression is too long")
    made: Callable[..., list[Any]] = fhirpathpy.compile(expression, models["r4"], _OPTIONS)
    return made


def _interpret(expression: str, type_name: str, value: Any, sibling: Any, run: Run) -> bool:
    """Whether the rule is kept. Only false breaks it: R4 has rules that come to nothing where
    the element that they are about is not there (bdl-8).
    """
    focus = ResourceNode.create_node(value, type_name, sibling)  # type: ignore[no-untyped-call]
    context = {"resource": run.root, "rootResource": run.container}
    found = _interpreted(expression)(focus, context)
    return found != [False]
