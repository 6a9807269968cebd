"""Code systems: which codes there are, what they mean, and which stand below which.

https://hl7.org/fhir/R4/codesystem.html. A code stands below another by the nesting of the
concepts, or by the properties `parent`, `subsumedBy` and `child`. Kept in columns, not as
JSON: a hundred thousand concepts are some ten megabytes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from fhir_server.core.resource_json import Resource

_PARENTS = frozenset({"parent", "subsumedBy"})
_DETAILS = ("definition", "designation", "property")
_INACTIVE = frozenset({"retired", "inactive"})
_NOTHING: Mapping[str, Any] = {}


class Concept(NamedTuple):
    """One concept; `details` are its definition, designations and properties as FHIR has them."""

    code: str
    display: str | None
    details: Mapping[str, Any] = _NOTHING

    @property
    def is_abstract(self) -> bool:
        """Whether it only groups others."""
        return any(
            each.get("code") == "notSelectable" and each.get("valueBoolean") is True
            for each in self.details.get("property", ())
        )

    @property
    def is_deprecated(self) -> bool:
        """Whether it belongs to no value set that does not list it, as R4 publishes them."""
        return any(
            each.get("code") == "status" and each.get("valueCode") == "deprecated"
            for each in self.details.get("property", ())
        )

    @property
    def is_inactive(self) -> bool:
        """Whether it is no longer to be used."""
        return any(
            (each.get("code") == "inactive" and each.get("valueBoolean") is True)
            or (each.get("code") == "status" and each.get("valueCode") in _INACTIVE)
            for each in self.details.get("property", ())
        )


class AnyCodeSystem(Protocol):
    """A code system, listed or known by its grammar.

    `is_complete`: a code that it does not have is none. `is_listed`: all can be told.
    """

    @property
    def url(self) -> str: ...

    @property
    def version(self) -> str | None: ...

    @property
    def name(self) -> str: ...

    @property
    def is_complete(self) -> bool: ...

    @property
    def is_listed(self) -> bool: ...

    @property
    def is_short(self) -> bool:
        """Whether concepts that it should hold have not been stored yet."""
        ...

    @property
    def codes(self) -> Iterable[str]: ...

    def find(self, code: str) -> Concept | None:
        """The concept of a code, written as the system writes it."""
        ...

    def below(self, code: str) -> frozenset[str]:
        """`code` and all that it subsumes."""
        ...

    def above(self, code: str) -> frozenset[str]:
        """`code` and all that subsume it."""
        ...

    def parents(self, code: str) -> tuple[str, ...]:
        """Those that stand directly above `code`."""
        ...


class CodeSystem:
    """The codes of one code system, as its resources list them."""

    is_listed = True

    def __init__(self, resource: Resource) -> None:
        """What `resource` says; `add` brings the concepts of its fragments."""
        self.url: str = resource.get("url") or ""
        self.version: str | None = resource.get("version")
        self.name: str = resource.get("name") or resource.get("title") or self.url
        self._is_said_complete = resource.get("content") == "complete"
        self._count: int = (not resource.get("concept") and resource.get("count")) or 0
        self._is_folded = resource.get("caseSensitive") is False
        self._displays: dict[str, str | None] = {}
        self._details: dict[str, Mapping[str, Any]] = {}
        self._parents: dict[str, tuple[str, ...]] = {}
        self._children: dict[str, tuple[str, ...]] | None = None
        self._folded: dict[str, str] | None = None
        self.add(resource)

    def __len__(self) -> int:
        return len(self._displays)

    @property
    def is_complete(self) -> bool:
        """Whether there are no other codes: it says so, and has as many as it says."""
        return self._is_said_complete and not self.is_short

    @property
    def is_short(self) -> bool:
        """Whether it lists none of the concepts that it says it has: its fragments do."""
        return len(self._displays) < self._count

    @property
    def codes(self) -> Iterable[str]:
        return self._displays.keys()

    def __contains__(self, code: str) -> bool:
        return self.find(code) is not None

    def add(self, resource: Resource) -> None:
        """Take in the concepts that `resource` lists."""
        waiting: list[tuple[Any, str | None]] = [
            (each, None) for each in reversed(resource.get("concept") or ())
        ]
        while waiting:
            concept, parent = waiting.pop()
            code = concept.get("code")
            if not isinstance(code, str):
                continue
            self._displays[code] = concept.get("display")
            details = {name: concept[name] for name in _DETAILS if concept.get(name)}
            if details:
                self._details[code] = details
            if parent is not None:
                self._join(code, parent)
            for found in concept.get("property") or ():
                other = found.get("valueCode")
                if isinstance(other, str) and found.get("code") in _PARENTS:
                    self._join(code, other)
                elif isinstance(other, str) and found.get("code") == "child":
                    self._displays.setdefault(other, None)
                    self._join(other, code)
            waiting += [(inner, code) for inner in reversed(concept.get("concept") or ())]
        self._children = self._folded = None

    def find(self, code: str) -> Concept | None:
        if code not in self._displays:
            if not self._is_folded:
                return None
            if self._folded is None:
                self._folded = {each.casefold(): each for each in self._displays}
            folded = self._folded.get(code.casefold())
            if folded is None:
                return None
            code = folded
        return Concept(code, self._displays[code], self._details.get(code, _NOTHING))

    def below(self, code: str) -> frozenset[str]:
        """`code` and all that it subsumes."""
        if self._children is None:
            children: dict[str, list[str]] = {}
            for each, above in self._parents.items():
                for parent in above:
                    children.setdefault(parent, []).append(each)
            self._children = {parent: tuple(each) for parent, each in children.items()}
        return _closure(code, self._children)

    def above(self, code: str) -> frozenset[str]:
        """`code` and all that subsume it."""
        return _closure(code, self._parents)

    def parents(self, code: str) -> tuple[str, ...]:
        """Those that stand directly above `code`."""
        return self._parents.get(code, ())

    def _join(self, code: str, parent: str) -> None:
        above = self._parents.get(code, ())
        if parent not in above:
            self._parents[code] = (*above, parent)


def _closure(code: str, following: Mapping[str, Iterable[str]]) -> frozenset[str]:
    found = {code}
    waiting = [code]
    while waiting:
        for other in following.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return frozenset(found)
