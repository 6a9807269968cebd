"""What R4 demands of the elements of each type: the structural part of its definitions.

https://hl7.org/fhir/R4/elementdefinition.html
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from fhir_server.core.validation.primitive import PRIMITIVES

# The inline types of elements that hold a whole resource.
RESOURCE = "Resource"

# A list that is longer is no list a person or device made. Code systems have long ones.
MAX_ITEMS = 50_000


class ElementRule(NamedTuple):
    """One element: `minimum` is 0 or 1, `is_simple` a Quantity without a comparator.

    `is_attribute`: an id or an extension's url, which cannot have extensions itself.
    `targets` are the types a Reference may point to, empty for any. `value_set` is the
    canonical URL of a required binding, "" for none.
    """

    name: str
    types: tuple[str, ...]
    is_choice: bool = False
    is_list: bool = False
    minimum: int = 0
    targets: tuple[str, ...] = ()
    is_attribute: bool = False
    is_simple: bool = False
    value_set: str = ""


class Property(NamedTuple):
    """A JSON property that a type may have: an element, and the type its name means.

    `is_sibling`: it is ``_name``, which holds the id and extensions of a primitive.
    """

    json_name: str
    element: ElementRule
    type_name: str
    is_sibling: bool = False


class TypeRule:
    """The elements of one type."""

    def __init__(
        self,
        name: str,
        elements: Iterable[ElementRule],
        *,
        is_resource: bool = False,
        is_abstract: bool = False,
    ) -> None:
        self.name = name
        self.elements = tuple(elements)
        self.is_resource = is_resource
        self.is_abstract = is_abstract

    @cached_property
    def properties(self) -> Mapping[str, Property]:
        """By JSON name; siblings of primitives included."""
        found: dict[str, Property] = {}
        for element in self.elements:
            for property_ in self._properties_of(element):
                found[property_.json_name] = property_
                is_plain = element.is_attribute or property_.type_name == "xhtml"
                if property_.type_name in PRIMITIVES and not is_plain:
                    sibling = "_" + property_.json_name
                    found[sibling] = Property(sibling, element, property_.type_name, True)
        return found

    def json_names(self, element_name: str) -> tuple[str, ...]:
        """The JSON names of an element, siblings left out."""
        return tuple(
            p.json_name
            for p in self.properties.values()
            if p.element.name == element_name and not p.is_sibling
        )

    @staticmethod
    def _properties_of(element: ElementRule) -> Iterable[Property]:
        if not element.is_choice:
            return (Property(element.name, element, element.types[0]),)
        return (
            Property(element.name + code[0].upper() + code[1:], element, code)
            for code in element.types
        )


class TypeRules:
    """Every type, and the value sets of the required bindings.

    `value_sets` holds codes by system by canonical URL; those that cannot be listed
    (units, media types) are not in it and are not checked.
    """

    def __init__(
        self,
        types: Iterable[TypeRule],
        value_sets: Mapping[str, Mapping[str, frozenset[str]]],
    ) -> None:
        self._types = {rule.name: rule for rule in types}
        self.value_sets = value_sets
        self.resource_types = frozenset(
            rule.name for rule in self._types.values() if rule.is_resource and not rule.is_abstract
        )

    def __getitem__(self, type_name: str) -> TypeRule:
        return self._types[type_name]

    def codes(self, value_set: str) -> frozenset[str] | None:
        """The codes of a value set over all its systems; None if it is not listed."""
        systems = self.value_sets.get(value_set)
        return None if systems is None else frozenset().union(*systems.values())
