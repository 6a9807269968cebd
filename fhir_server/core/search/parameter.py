"""Search parameters: what can be asked of a resource type.

https://hl7.org/fhir/R4/searchparameter.html
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from enum import StrEnum
from typing import NamedTuple


class SearchType(StrEnum):
    """The type of a search parameter; it decides how values are read and compared."""

    NUMBER = "number"
    DATE = "date"
    STRING = "string"
    TOKEN = "token"  # noqa: S105 - a coded value, no secret
    REFERENCE = "reference"
    COMPOSITE = "composite"
    QUANTITY = "quantity"
    URI = "uri"
    SPECIAL = "special"


class Source(NamedTuple):
    """Where the index entries of a parameter are found.

    Many parameters of R4 say again what others say: `patient` is `subject` where that
    is a Patient, `combo-code` is `code` or `component-code`. Those own no index
    entries; their sources are the parameters that do. `target` limits references.
    """

    code: str
    target: str | None = None


class Component(NamedTuple):
    """One half of a composite: the parameter it is compared as, and its FHIRPath within it.

    `code` is that parameter's code on the composite's resource type, which holds the
    entries ("" where it has none). `is_of_resource` is true of a part that stands outside
    the repeating element (``%resource.x``) and goes with each of them.
    """

    definition: str
    expression: str
    code: str = ""
    is_of_resource: bool = False


class SearchParameter(NamedTuple):
    """A search parameter as it applies to one resource type.

    `expression` is the part of the definition's FHIRPath that is about
    `resource_type`. `sources` names the parameter itself unless it is derived.
    """

    resource_type: str
    code: str
    type: SearchType
    expression: str
    url: str
    targets: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def is_derived(self) -> bool:
        """Whether other parameters hold its index entries."""
        return self.sources != (Source(self.code),)

    @property
    def target_types(self) -> tuple[str, ...]:
        """The resource types that its references may be to; none is any."""
        limits = {source.target for source in self.sources}
        if None in limits:
            return self.targets
        return tuple(t for t in self.targets if t in limits) or tuple(sorted(filter(None, limits)))


def _none(_parameter: SearchParameter) -> frozenset[str]:
    return frozenset()


class SearchParameters:
    """Every search parameter of every resource type, by type and code.

    `implied_systems` tells which code systems a token parameter's bare codes are of.
    """

    def __init__(
        self,
        parameters: Iterable[SearchParameter],
        implied_systems: Callable[[SearchParameter], frozenset[str]] = _none,
    ) -> None:
        self.implied_systems = implied_systems
        self._by_type: dict[str, dict[str, SearchParameter]] = {}
        for parameter in parameters:
            self._by_type.setdefault(parameter.resource_type, {})[parameter.code] = parameter

    @property
    def resource_types(self) -> Set[str]:
        """The resource types that have parameters: all of them."""
        return self._by_type.keys()

    def for_type(self, resource_type: str) -> Mapping[str, SearchParameter]:
        """The parameters of a type by code, `_id` and `_lastUpdated` among them."""
        return self._by_type.get(resource_type, {})

    def __iter__(self) -> Iterator[SearchParameter]:
        for of_type in self._by_type.values():
            yield from of_type.values()

    def get(self, resource_type: str, code: str) -> SearchParameter | None:
        return self._by_type.get(resource_type, {}).get(code)
