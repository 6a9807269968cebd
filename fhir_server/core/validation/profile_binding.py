"""Bindings of profiles: whether codes belong to the value sets that they must be of.

https://hl7.org/fhir/R4/terminologies.html#strength
"""

from collections.abc import Callable
from typing import Any

from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation.profile import Binding
from fhir_server.core.validation.profile_run import Run, Where

FindCodes = Callable[[str], Codes | None]
"""The codes of a value set by its canonical URL; None if they cannot be told here."""

Check = Callable[[Any, Any, Where, Run], None]

_CODED = frozenset({"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"})


def compile_binding(
    binding: Binding, profile: str, type_name: str, find: FindCodes
) -> Check | None:
    """A check of coded values of that type; None for a type that is not coded."""
    if type_name not in _CODED:
        return None
    codes = find(binding.value_set)
    name = binding.value_set.partition("|")[0]
    is_required = binding.strength == "required"
    rule = f"binding {name}"

    def check(value: Any, sibling: Any, where: Where, run: Run) -> None:
        if codes is None:
            told = "its codes are not known here, so nobody knows whether this is one of them"
            run.add("informational", told, where, profile, rule, "information")
        elif not _is_of(value, type_name, codes, is_text_enough=not is_required):
            if is_required:
                run.add("code-invalid", "must have a code of the value set", where, profile, rule)
            else:
                told = "should have a code of the value set, if one of them fits"
                run.add("code-invalid", told, where, profile, rule, "warning")

    return check


def has_code(value: Any, codes: Codes) -> bool:
    """Whether a code, Coding, CodeableConcept or Quantity is of these codes."""
    if isinstance(value, str):
        return _is_of(value, "code", codes, is_text_enough=False)
    if isinstance(value, dict) and "coding" in value:
        return _is_of(value, "CodeableConcept", codes, is_text_enough=False)
    return _is_of(value, "Coding", codes, is_text_enough=False)


def _is_of(value: Any, type_name: str, codes: Codes, *, is_text_enough: bool) -> bool:
    if isinstance(value, str):
        # A code alone: the element says of which system it is.
        return bool(codes.systems) or any(code == value for _, code in codes.single)
    if not isinstance(value, dict):
        # Of the wrong JSON type, or absent with extensions that may say why.
        return True
    if type_name != "CodeableConcept":
        return _is_coding(value, codes)
    codings = value.get("coding")
    if not isinstance(codings, list) or not codings:
        return is_text_enough or "text" not in value
    return any(isinstance(coding, dict) and _is_coding(coding, codes) for coding in codings)


def _is_coding(coding: dict[str, Any], codes: Codes) -> bool:
    system, code = coding.get("system"), coding.get("code")
    if not isinstance(code, str) or not isinstance(system, str | None):
        return False
    return (system or "", code) in codes.single or system in codes.systems
