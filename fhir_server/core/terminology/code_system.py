"""Code systems: which codes there are, and which stand below which.

https://hl7.org/fhir/R4/codesystem.html. A code stands below another by the nesting of the
concepts, or by the properties `parent`, `subsumedBy` and `child`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.core.resource_json import Resource

_PARENTS = frozenset({"parent", "subsumedBy"})


class CodeSystem:
    """The codes of one code system. `is_complete`: there are no others."""

    def __init__(
        self, url: str, parents: Mapping[str, Iterable[str]], *, is_complete: bool
    ) -> None:
        self.url = url
        self.is_complete = is_complete
        self._parents = {code: tuple(above) for code, above in parents.items()}
        children: dict[str, list[str]] = {}
        for code, above in self._parents.items():
            for parent in above:
                children.setdefault(parent, []).append(code)
        self._children = children

    @property
    def codes(self) -> Iterable[str]:
        return self._parents.keys()

    def __contains__(self, code: str) -> bool:
        return code in self._parents

    def below(self, code: str) -> frozenset[str]:
        """`code` and all that it subsumes."""
        return _closure(code, self._children)

    def above(self, code: str) -> frozenset[str]:
        """`code` and all that subsume it."""
        return _closure(code, self._parents)


def read(resource: Resource) -> CodeSystem:
    """The code system that a CodeSystem resource defines, as far as it says."""
    parents: dict[str, dict[str, None]] = {}
    waiting: list[tuple[Any, str | None]] = [(c, None) for c in resource.get("concept") or ()]
    while waiting:
        concept, parent = waiting.pop()
        code = concept.get("code")
        if not isinstance(code, str):
            continue
        above = parents.setdefault(code, {})
        if parent is not None:
            above[parent] = None
        for found in concept.get("property") or ():
            other = found.get("valueCode")
            if isinstance(other, str) and found.get("code") in _PARENTS:
                above[other] = None
            elif isinstance(other, str) and found.get("code") == "child":
                parents.setdefault(other, {})[code] = None
        waiting += [(inner, code) for inner in concept.get("concept") or ()]
    return CodeSystem(
        resource.get("url") or "", parents, is_complete=resource.get("content") == "complete"
    )


def _closure(code: str, following: Mapping[str, Iterable[str]]) -> frozenset[str]:
    found = {code}
    waiting = [code]
    while waiting:
        for other in following.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return frozenset(found)
