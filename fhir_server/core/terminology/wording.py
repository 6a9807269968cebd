"""How a concept is called: its display in the language that is asked for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fhir_server.core.terminology.code_system import Concept


def display(concept: Concept, languages: str | None) -> str | None:
    """The name in the first of ``de,en;q=0.5`` that it has one in; else its usual one."""
    for language in _wanted(languages):
        for each in concept.details.get("designation", ()):
            if _speaks(each.get("language"), language) and each.get("value"):
                return str(each["value"])
    return concept.display


def names(concept: Concept) -> Iterator[str]:
    """All that it is called."""
    if concept.display:
        yield concept.display
    for each in concept.details.get("designation", ()):
        if each.get("value"):
            yield each["value"]


def designations(concept: Concept, wanted: Sequence[str] = ()) -> list[Mapping[str, Any]]:
    """Its designations as FHIR has them; `wanted` are languages, or uses as ``system|code``."""
    found = concept.details.get("designation", ())
    return [each for each in found if not wanted or any(_is_wanted(each, w) for w in wanted)]


def _is_wanted(designation: Any, wanted: str) -> bool:
    system, bar, code = wanted.rpartition("|")
    if bar:
        use = designation.get("use") or {}
        return use.get("code") == code and system in ("", use.get("system"))
    return _speaks(designation.get("language"), wanted)


def _wanted(languages: str | None) -> list[str]:
    return [part.partition(";")[0].strip() for part in (languages or "").split(",") if part.strip()]


def _speaks(has: str | None, wanted: str) -> bool:
    has, wanted = (has or "").casefold(), wanted.casefold()
    return bool(wanted) and (has == wanted or has.startswith(f"{wanted}-"))
