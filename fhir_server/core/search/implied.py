"""Implied systems: the code system of an element that holds but a code.

`gender=http://hl7.org/fhir/administrative-gender|male` finds what `gender=male` finds: the
element's required binding says the system, and the resource does not.
https://hl7.org/fhir/R4/search.html#token
"""

from collections.abc import Iterable, Mapping

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.path import Field, Path, resolve
from fhir_server.core.search.parameter import SearchParameter

BOOLEANS = "http://terminology.hl7.org/CodeSystem/special-values"


class ImpliedSystems:
    """Answers for any token parameter; safe to share between threads."""

    def __init__(
        self, types: ElementTypes, value_sets: Mapping[str, Mapping[str, Iterable[str]]]
    ) -> None:
        """`value_sets` are codes by system by canonical URL."""
        self._types = types
        self._value_sets = value_sets
        self._known: dict[SearchParameter, frozenset[str]] = {}

    def __call__(self, parameter: SearchParameter) -> frozenset[str]:
        """The systems of the codes that `parameter` finds without a system."""
        found = self._known.get(parameter)
        if found is None:
            found = self._known[parameter] = self._find(parameter)
        return found

    def _find(self, parameter: SearchParameter) -> frozenset[str]:
        if not parameter.expression:
            return frozenset()
        root = parameter.resource_type
        systems: set[str] = set()
        for path in resolve(parse(parameter.expression), self._types, root, root):
            if path.type_name == "boolean":
                systems.add(BOOLEANS)
            elif path.type_name == "code":
                systems.update(self._value_sets.get(self._binding(path, root), ()))
        return frozenset(systems)

    def _binding(self, path: Path, type_name: str) -> str:
        """The value set of the element that a path ends at, "" for none."""
        binding = ""
        for step in path.steps:
            if isinstance(step, Field):
                element = self._types.get(type_name, step.name)
                binding = element.value_set if element is not None else ""
                type_name = step.type_name
        return binding
