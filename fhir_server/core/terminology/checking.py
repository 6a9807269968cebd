"""$validate-code: whether a code is one of a code system, or of a value set.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html
https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
"""

from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.operation_output import parameters, value
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.folding import fold
from fhir_server.core.terminology.code_system import AnyCodeSystem, Concept
from fhir_server.core.terminology.coding import Asked
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.core.terminology.value_set import Selection
from fhir_server.core.terminology.wording import display, names


class Verdict(NamedTuple):
    """`is_valid` None: that cannot be told here."""

    is_valid: bool | None
    message: str = ""
    display: str | None = None
    asked: Asked | None = None

    def parameters(self) -> Resource:
        """As the operation answers."""
        return parameters(
            value("result", "Boolean", self.is_valid is True),
            value("message", "String", self.message or None),
            value("display", "String", self.display),
            value("code", "Code", self.asked.code if self.asked else None),
            value("system", "Uri", (self.asked.system or None) if self.asked else None),
        )


def check_in_code_system(
    known: AnyCodeSystem, asked: Sequence[Asked], language: str | None, *, may_be_abstract: bool
) -> Verdict:
    """The verdict on the first of these codings that the system has, else on the last."""
    verdict = Verdict(False)
    for each in asked:
        concept = known.find(each.code) if each.system in ("", known.url) else None
        if concept is None:
            is_told = known.is_complete or each.system not in ("", known.url)
            text = "is not a code of" if is_told else "is not known here of"
            message = f"{each.code} {text} {known.url}"
            verdict = Verdict(False if is_told else None, message, None, each)
        else:
            verdict = _check_concept(concept, each, language, may_be_abstract=may_be_abstract)
        if verdict.is_valid:
            break
    return verdict


def check_in_value_set(
    terminology: Terminology,
    selection: Selection,
    asked: Sequence[Asked],
    language: str | None,
    *,
    may_be_abstract: bool,
) -> Verdict:
    """The verdict on the first of these codings that the set has, else on the last.

    Raises:
        NotLoaded: a code system has to be looked for first.
        InvalidSearch: a bare code is given, and the set cannot be told.
    """
    verdict = Verdict(False)
    for each in asked:
        placed = each if each.system else _with_system(selection, each)
        if placed is None:
            verdict = Verdict(False, f"{each.code} is not in the value set", None, each)
            continue
        is_member = selection.holds(placed.system, placed.code)
        if not is_member:
            text = "cannot be told here to be" if is_member is None else "is not"
            message = f"{placed.system}#{placed.code} {text} in the value set"
            verdict = Verdict(is_member, message, None, placed)
            continue
        known = terminology.find(placed.system, placed.version)
        concept = known.find(placed.code) if known else None
        listed = _listed(selection, placed) if concept is None or not concept.display else None
        concept = listed or concept or Concept(placed.code, None)
        verdict = _check_concept(concept, placed, language, may_be_abstract=may_be_abstract)
        if verdict.is_valid:
            break
    return verdict


def _check_concept(
    concept: Concept, asked: Asked, language: str | None, *, may_be_abstract: bool
) -> Verdict:
    called = display(concept, language)
    if concept.is_abstract and not may_be_abstract:
        return Verdict(False, f"{asked.code} is abstract: it groups others", called, asked)
    if asked.display is not None:
        known = {fold(each) for each in names(concept)}
        if known and fold(asked.display) not in known:
            return Verdict(False, f"the display is not one of {asked.code}", called, asked)
    message = f"{asked.code} is no longer to be used" if concept.is_inactive else ""
    return Verdict(True, message, called, asked)


def _with_system(selection: Selection, asked: Asked) -> Asked | None:
    """A bare code with the one system that the set has it of."""
    found = {m.system for m in selection.members() if m.concept.code == asked.code}
    return asked._replace(system=found.pop()) if len(found) == 1 else None


def _listed(selection: Selection, asked: Asked) -> Concept | None:
    """The concept as the set itself has it, where it can be told."""
    if selection.whole:
        return None
    wanted = (asked.system, asked.code)
    return next(
        (m.concept for m in selection.members() if (m.system, m.concept.code) == wanted), None
    )
