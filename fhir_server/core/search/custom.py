"""Custom search parameters: SearchParameter resources as parameters that can be searched by.

https://hl7.org/fhir/R4/searchparameter.html. Their entries bear the code and a digest of
what the definition means (``zone@3f09ab12``). So the entries of a definition that changed
stand beside those of the one before, and a search never takes one for the other.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.form import Filled
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.parameter import (
    SearchParameter,
    SearchParameters,
    SearchType,
    Source,
)
from fhir_server.errors import Issue

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_LONGEST = 4_000
_SEVERAL = frozenset({"Resource", "DomainResource"})
_NOT_HERE = frozenset({SearchType.COMPOSITE, SearchType.SPECIAL})


class SearchDefinitions(NamedTuple):
    """How resources are indexed, and what can be asked of them: always as one."""

    indexer: Callable[[Resource | Filled], IndexEntries]
    parameters: SearchParameters


class Refused(ValueError):
    """A definition that cannot be searched by; why."""


@dataclass(frozen=True, slots=True)
class SearchExtension:
    """R4's own parameters, and how others are added to them."""

    parameters: SearchParameters
    types: ElementTypes
    time_zone: str

    def extend(self, resources: Iterable[Resource]) -> SearchDefinitions:
        """R4's parameters with those that `resources` define; what cannot be used is left out.

        Of two that have a name the last one is searched by; both are indexed.
        """
        added = [found for resource in resources for found in self._accepted(resource)]
        # In one order, so that the same definitions always give the same entries.
        owners = SearchParameters((*self.parameters, *sorted(map(_owner, added))))
        return SearchDefinitions(
            Indexer(owners, self.types, self.time_zone),
            SearchParameters((*self.parameters, *added), self.parameters.implied_systems),
        )

    def faults(self, resource: Resource) -> tuple[Issue, ...]:
        """Why a SearchParameter resource cannot be used; empty if it can."""
        try:
            self.read(resource)
        except Refused as error:
            return (Issue("not-supported", str(error), "SearchParameter"),)
        return ()

    def read(self, resource: Resource) -> tuple[SearchParameter, ...]:
        """The parameters that a SearchParameter resource defines, one for each type.

        Raises:
            Refused: it cannot be used, or would take the place of a parameter of R4.
        """
        code, url = resource.get("code"), resource.get("url") or ""
        expression = resource.get("expression")
        if not isinstance(code, str) or _CODE.fullmatch(code) is None:
            raise Refused("code: letters, digits, - and _ are possible, up to 64")
        if not isinstance(expression, str) or not 0 < len(expression) <= _LONGEST:
            raise Refused("expression: needed, and not longer than 4,000 characters")
        try:
            search_type = SearchType(str(resource.get("type")))
        except ValueError:
            raise Refused("type: none that R4 has") from None
        if search_type in _NOT_HERE:
            raise Refused(f"type: {search_type} parameters cannot be added")
        bases = list(dict.fromkeys(self._bases(resource)))
        indexer = Indexer(self.parameters, self.types, self.time_zone)
        found: list[SearchParameter] = []
        is_known = False
        for base in bases:
            known = self.parameters.get(base, code)
            if known is not None:
                if known.url == url:
                    # R4's own definition, stored here.
                    is_known = True
                    continue
                raise Refused(f"code: {base} has a parameter of that name in R4")
            own = _about(expression, base)
            if not own:
                if len(bases) > 1:
                    continue
                raise Refused(f"expression: it is not about {base}")
            entries = f"{code}@{_digest(search_type, own)}"
            parameter = SearchParameter(
                base,
                code,
                search_type,
                own,
                url,
                targets=tuple(resource.get("target") or ()),
                sources=(Source(entries),),
            )
            try:
                indexer.check(_owner(parameter))
            except FhirPathError as error:
                raise Refused(f"expression: {error}") from None
            found.append(parameter)
        if not found and not is_known:
            raise Refused("expression: it is about none of its base types")
        return tuple(found)

    def _accepted(self, resource: Resource) -> tuple[SearchParameter, ...]:
        try:
            return self.read(resource)
        except Refused:
            return ()

    def _bases(self, resource: Mapping[str, Any]) -> Iterator[str]:
        everything = self.parameters.resource_types
        for base in resource.get("base") or ():
            if base in _SEVERAL:
                yield from sorted(everything)
            elif base in everything:
                yield base
            else:
                raise Refused("base: not a resource type of R4")


def _owner(parameter: SearchParameter) -> SearchParameter:
    """What holds the entries of a parameter that was added."""
    return parameter._replace(code=parameter.sources[0].code)


def _about(expression: str, base: str) -> str:
    """The alternatives of `expression` that are about `base`, in its words."""
    found: list[str] = []
    for term in _alternatives(expression):
        start = re.match(r"\(*\s*([A-Za-z]+)", term)
        if start is None:
            continue
        if start[1] == base:
            found.append(term)
        elif start[1] in _SEVERAL:
            found.append(term[: start.start(1)] + base + term[start.end(1) :])
    return " | ".join(found)


def _alternatives(expression: str) -> list[str]:
    """The parts between the bars that stand in no parentheses and no text."""
    parts: list[str] = []
    depth = start = 0
    is_text = False
    for position, character in enumerate(expression):
        if character == "'" and expression[position - 1 : position] != "\\":
            is_text = not is_text
        elif not is_text and character in "([":
            depth += 1
        elif not is_text and character in ")]":
            depth -= 1
        elif not is_text and not depth and character == "|":
            parts.append(expression[start:position].strip())
            start = position + 1
    return [*parts, expression[start:].strip()]


def _digest(search_type: SearchType, expression: str) -> str:
    return hashlib.blake2b(f"{search_type} {expression}".encode(), digest_size=6).hexdigest()
