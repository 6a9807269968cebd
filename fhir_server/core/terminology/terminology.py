"""Terminology: the code systems and value sets that a search can ask about.

It is a value: what is shipped is in it from the start, what is stored on the server is added
when a search turns out to need it (`NotLoaded`).
"""

from collections.abc import Iterable, Mapping

from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology import code_system
from fhir_server.core.terminology.code_system import CodeSystem
from fhir_server.core.terminology.value_set import Codes, expand
from fhir_server.errors import InvalidSearch

_DEEPEST = 20


class NotLoaded(InvalidSearch):
    """A definition that may be stored on this server has not been looked for yet.

    `url` is canonical, or a reference such as ``ValueSet/42``.
    """

    def __init__(self, diagnostics: str, resource_type: str = "", url: str = "") -> None:
        super().__init__(diagnostics)
        self.resource_type = resource_type
        self.url = url


class Terminology:
    """Definitions by their URLs. `absent` are those that were looked for in vain."""

    def __init__(
        self,
        resources: Iterable[Resource] = (),
        listed: Mapping[str, Mapping[str, Iterable[str]]] | None = None,
    ) -> None:
        """`listed` are value sets that are known as codes by system."""
        self._code_systems: Mapping[str, CodeSystem] = {}
        self._value_sets: Mapping[str, Resource] = {}
        self._listed = listed or {}
        self._absent: frozenset[tuple[str, str]] = frozenset()
        for resource in resources:
            self._keep(resource, resource.get("url") or "")

    def having(self, not_loaded: NotLoaded, resource: Resource | None) -> "Terminology":
        """The same with what `not_loaded` asked for; None: there is none."""
        other = Terminology(listed=self._listed)
        other._code_systems = self._code_systems
        other._value_sets = self._value_sets
        other._absent = self._absent
        if resource is None:
            other._absent |= {(not_loaded.resource_type, not_loaded.url)}
        else:
            other._keep(resource, not_loaded.url)
        return other

    def codes(self, url: str) -> Codes:
        """The codes of a value set.

        Raises:
            NotLoaded: a definition is needed that has to be looked for first.
            InvalidSearch: there is no such set, or its codes cannot be told.
        """
        return self._codes(url, ())

    def below(self, system: str, code: str) -> frozenset[str]:
        """`code` and what it subsumes. Raises as `codes`."""
        return self._known(system, code).below(code)

    def above(self, system: str, code: str) -> frozenset[str]:
        """`code` and what subsumes it. Raises as `codes`."""
        return self._known(system, code).above(code)

    def _keep(self, resource: Resource, url: str) -> None:
        if resource["resourceType"] == "CodeSystem":
            self._code_systems = {**self._code_systems, url: code_system.read(resource)}
        elif resource["resourceType"] == "ValueSet":
            self._value_sets = {**self._value_sets, url: resource}

    def _codes(self, url: str, within: tuple[str, ...]) -> Codes:
        if url in within or len(within) >= _DEEPEST:
            raise InvalidSearch("the value set is made of itself")
        known = self._value_sets.get(url)
        if known is not None:
            return expand(known, self._find, lambda other: self._codes(other, (*within, url)))
        listed = self._listed.get(url.partition("|")[0])
        if listed is not None:
            return Codes(frozenset((s, code) for s, codes in listed.items() for code in codes))
        self._miss("ValueSet", url)
        raise InvalidSearch("there is no ValueSet of that URL here")

    def _find(self, system: str) -> CodeSystem | None:
        known = self._code_systems.get(system)
        if known is None:
            self._miss("CodeSystem", system)
        return known

    def _known(self, system: str, code: str) -> CodeSystem:
        known = self._find(system)
        if known is None:
            raise InvalidSearch("nothing is known here of that code system")
        if code not in known:
            raise InvalidSearch("that code is not known here")
        return known

    def _miss(self, resource_type: str, url: str) -> None:
        if (resource_type, url) not in self._absent:
            text = f"there is no {resource_type} of that URL here"
            raise NotLoaded(text, resource_type, url)


NOTHING_KNOWN = Terminology()
