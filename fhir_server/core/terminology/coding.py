"""The codes that a terminology operation is asked about.

They come as `code` and `system`, as a Coding, or as a CodeableConcept.
"""

from typing import Any, NamedTuple

from fhir_server.core.operation_input import Inputs, fault


class Asked(NamedTuple):
    """One code; what is empty was not given."""

    system: str
    code: str
    version: str | None = None
    display: str | None = None


def read_codings(
    inputs: Inputs, *, system: str = "system", version: str = "version"
) -> list[Asked]:
    """The codings of a call; `system` and `version` are the names that go with `code`.

    Raises:
        InvalidRequest: there is none, or they are given in more than one way.
    """
    code = inputs.text("code")
    concepts = inputs.objects("codeableConcept")
    given = [*inputs.objects("coding")]
    if (code is not None) + bool(given) + bool(concepts) != 1:
        raise fault("give one of code, coding and codeableConcept", "code", code="required")
    if code is not None:
        found = (inputs.text(system) or "", inputs.text(version), inputs.text("display"))
        return [Asked(found[0], code, found[1], found[2])]
    for concept in concepts:
        given += concept.get("coding") or ()
    codings = [read_coding(each, "coding") for each in given]
    if not codings:
        raise fault("has no coding", "codeableConcept", code="required")
    return codings


def read_coding(coding: Any, path: str) -> Asked:
    """A Coding as FHIR has it.

    Raises:
        InvalidRequest: it has no code.
    """
    code = coding.get("code") if isinstance(coding, dict) else None
    if not isinstance(code, str) or not code:
        raise fault("a Coding with a code is needed", path, code="required")
    texts = [coding.get(name) for name in ("system", "version", "display")]
    system, version, display = (each if isinstance(each, str) else None for each in texts)
    return Asked(system or "", code, version, display)
