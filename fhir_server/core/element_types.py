"""Which elements a type has, and of which types they are: R4's structure as plain values.

https://hl7.org/fhir/R4/elementdefinition.html
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Element(NamedTuple):
    """One element of a type.

    `name` has no ``[x]``; a choice has several `types`, and its JSON names are
    `name` + the type with a capital (``effectivePeriod``). A backbone element's type is
    its own path ("Observation.component"). `targets` are what a Reference may point to,
    empty for any. `is_summary`: `_summary=true` keeps it. `value_set` is the canonical URL
    of a required binding, "" for none.
    """

    name: str
    types: tuple[str, ...]
    is_list: bool = False
    is_choice: bool = False
    targets: tuple[str, ...] = ()
    is_required: bool = False
    is_summary: bool = False
    value_set: str = ""

    def json_names(self) -> tuple[tuple[str, str], ...]:
        """The JSON property names it may have, each with the type that name means."""
        if not self.is_choice:
            return ((self.name, self.types[0]),)
        return tuple((self.name + code[0].upper() + code[1:], code) for code in self.types)


class ElementTypes:
    """The elements of every resource type, datatype and backbone element, in their order."""

    def __init__(self, types: Mapping[str, Iterable[Element]]) -> None:
        self._types = {name: {e.name: e for e in elements} for name, elements in types.items()}

    def elements(self, type_name: str) -> Mapping[str, Element]:
        """By name, inherited ones included; empty for a primitive or an unknown type."""
        return self._types.get(type_name, {})

    def get(self, type_name: str, name: str) -> Element | None:
        return self._types.get(type_name, {}).get(name)
