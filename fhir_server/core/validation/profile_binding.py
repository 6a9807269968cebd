"""Bindings of profiles: whether codes belong to the value sets that they must be of.

https://hl7.org/fhir/R4/terminologies.html#strength
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation.profile import Binding
from fhir_server.core.validation.profile_run import Check, Run, Where

FindCodes = Callable[[str], Codes | None]
"""The codes of a value set by its canonical URL; None if they cannot be told here."""

_CODED = frozenset({"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"})


def compile_binding(
    binding: Binding, profile: str, type_name: str, find: FindCodes
) -> Check | None:
    """A check of coded values of that type; None for a type that is not coded."""
    if type_name not in _CODED:
        return None
    name = binding.value_set.partition("|")[0]
    is_required = binding.strength == "required"
    codes = find(binding.value_set)
    return Bound(type_name, codes, is_required, profile, f"binding {name}")


@dataclass(frozen=True, slots=True)
class Bound:
    """Values of `type_name` must or should be of `codes`; None where those cannot be told."""

    type_name: str
    codes: Codes | None
    is_required: bool
    profile: str
    rule: str

    def __call__(self, value: Any, sibling: Any, where: Where, run: Run) -> None:
        if self.codes is None:
            told = "its codes are not known here, so nobody knows whether this is one of them"
            run.add("informational", told, where, self.profile, self.rule, "information")
        elif not self.is_of(value, self.codes):
            if self.is_required:
                told = "must have a code of the value set"
                run.add("code-invalid", told, where, self.profile, self.rule)
            else:
                told = "should have a code of the value set, if one of them fits"
                run.add("code-invalid", told, where, self.profile, self.rule, "warning")

    def is_of(self, value: Any, codes: Codes) -> bool:
        return _is_of(value, self.type_name, codes, is_text_enough=not self.is_required)


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
