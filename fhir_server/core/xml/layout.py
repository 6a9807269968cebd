"""How each type is laid out in XML: which names are elements, which attributes, in which order.

https://hl7.org/fhir/R4/xml.html
"""

from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

from fhir_server.core.element_types import ElementTypes

FHIR = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"

_ABSTRACT = frozenset({"Resource", "DomainResource"})


class Kind(Enum):
    """What an element is in XML."""

    ATTRIBUTE = auto()
    PRIMITIVE = auto()
    COMPLEX = auto()
    RESOURCE = auto()
    NARRATIVE = auto()


class Field(NamedTuple):
    """One JSON property of a type; `order` is its place among the type's elements."""

    name: str
    type_name: str
    kind: Kind
    is_list: bool
    order: int


class TypeLayout(NamedTuple):
    """The properties of a type by name."""

    name: str
    fields: dict[str, Field]
    is_resource: bool


class Layouts:
    """The layouts of all types, each made when it is first met."""

    def __init__(self, types: ElementTypes) -> None:
        self._types = types
        self._made: dict[str, TypeLayout] = {}

    def of(self, type_name: str) -> TypeLayout:
        """The layout of a type; one of a primitive has no fields but what all elements have."""
        found = self._made.get(type_name)
        return found if found is not None else self._make(type_name)

    def of_resource(self, name: str) -> TypeLayout | None:
        """The layout of a resource type that can be sent; None if `name` is none."""
        if name in _ABSTRACT or not self._types.elements(name):
            return None
        found = self.of(name)
        return found if found.is_resource else None

    def _make(self, type_name: str) -> TypeLayout:
        elements = self._types.elements(type_name) or self._types.elements("Element")
        is_resource = "implicitRules" in elements
        fields: dict[str, Field] = {}
        for element in elements.values():
            for name, code in element.json_names():
                is_attribute = (name == "id" and not is_resource) or (
                    name == "url" and type_name == "Extension"
                )
                kind = Kind.ATTRIBUTE if is_attribute else self._kind(code)
                fields[name] = Field(name, code, kind, element.is_list, len(fields))
        # Two threads may both make a layout; the first one's is kept.
        return self._made.setdefault(type_name, TypeLayout(type_name, fields, is_resource))

    def _kind(self, type_name: str) -> Kind:
        if type_name == "xhtml":
            return Kind.NARRATIVE
        if type_name in _ABSTRACT:
            return Kind.RESOURCE
        return Kind.COMPLEX if self._types.elements(type_name) else Kind.PRIMITIVE


@lru_cache(maxsize=8)
def layouts_of(types: ElementTypes) -> Layouts:
    """The layouts of `types`, kept for the next time."""
    return Layouts(types)
