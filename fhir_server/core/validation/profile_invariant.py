"""Invariants of profiles: FHIRPath that is compiled here where it can be, else interpreted.

What is compiled only ever says that a resource is good: where it does not, where a primitive
has an id or extensions, and where the expression uses more than is compiled, the library
decides, some hundred times slower. https://hl7.org/fhir/R4/fhirpath.html
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.source import NAMES, Writer
from fhir_server.core.validation.profile import Rule
from fhir_server.core.validation.profile_run import Run, Where
from fhir_server.errors import Severity

_LONGEST_TOLD = 300
_FAULTS = (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError)


def compile_rule(
    rule: Rule, profile: str, types: ElementTypes, type_name: str, root_type: str
) -> "Kept":
    """A check of one invariant on values of `type_name` within resources of `root_type`."""
    own = _compile_own(rule.expression, types, type_name, root_type)
    return Kept(rule, profile, type_name, root_type, own)


@dataclass(frozen=True, slots=True)
class Kept:
    """An invariant; `own` is what was compiled of it, None if it uses more than we compile."""

    rule: Rule
    profile: str
    type_name: str
    root_type: str
    own: Callable[[Any, Any], Any] | None

    def __call__(self, value: Any, sibling: Any, where: Where, run: Run) -> None:
        rule = self.rule
        is_about_absence = "hasValue" in rule.expression or "extension" in rule.expression
        if value is None and not is_about_absence:
            # Only extensions: what is said of the value comes to nothing. The library would
            # make a text of it.
            return
        if self.own is not None and not run.has_siblings:
            try:
                if self.own(value, run.root) is True:
                    return
            except _FAULTS:
                # A resource whose structure is broken as well; the library says what it can.
                pass
        # Imported when a rule needs it: the library's grammar takes a tenth of a second.
        from fhir_server.core.fhirpath.interpret import NotEvaluated, evaluate

        variables = {"resource": run.root, "rootResource": run.container}
        try:
            found = evaluate(rule.expression, self.type_name, value, sibling, variables)
        except NotEvaluated as reason:
            told = "the rule cannot be evaluated here, so nobody knows whether it is kept"
            text = f"{told}: {reason}"
            run.add("informational", text, where, self.profile, rule.key, "information")
            return
        # Only false breaks it: R4 has rules that come to nothing where the element that they
        # are about is not there (bdl-8).
        if found == [False]:
            severity: Severity = "error" if rule.severity == "error" else "warning"
            text = rule.human[:_LONGEST_TOLD]
            run.add("invariant", text, where, self.profile, rule.key, severity)


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
