"""Values of a FHIRPath Patch, made into what the element they are for can hold.

A value is a `value[x]`, a resource, or, where Parameters have no type for it, parts that are
named for its elements. https://hl7.org/fhir/R4/fhirpatch.html
"""

import copy
from typing import Any, NamedTuple

from fhir_server.core.element_types import Element, ElementTypes
from fhir_server.core.fhirpath.path import is_primitive
from fhir_server.core.patch import node
from fhir_server.core.patch.node import Place
from fhir_server.core.patch.operation import fault, parts_of
from fhir_server.core.patch.outcome import MAX_DEPTH, unprocessable
from fhir_server.errors import TooCostly

_NUMBERS = frozenset({"integer", "unsignedInt", "positiveInt", "decimal"})
_QUANTITIES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})


class Target(NamedTuple):
    """An element to be filled; `json_name` where one type of a choice was named."""

    element: Element
    json_name: str | None = None

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """The JSON names it may have, each with its type."""
        names = self.element.json_names()
        if self.json_name is None:
            return names
        return tuple(option for option in names if option[0] == self.json_name)


class Value(NamedTuple):
    """The JSON property a value goes into, and what goes there."""

    name: str
    value: Any
    extra: Any = None


def find_target(types: ElementTypes, type_name: str, name: str) -> Target | None:
    """The element of a type called `name`: ``value``, ``value[x]`` or ``valueQuantity``."""
    element = types.get(type_name, name.removesuffix("[x]"))
    if element is not None:
        return Target(element)
    for element in types.elements(type_name).values():
        if element.is_choice and any(name == own for own, _ in element.json_names()):
            return Target(element, name)
    return None


def build(types: ElementTypes, target: Target, part: dict[str, Any], at: str) -> Value:
    """What `part` says, for `target`; a copy.

    Raises:
        InvalidRequest: `part` says nothing.
        InvalidResource: it is of another type than `target`.
    """
    return _build(types, target, part, at, 0)


def _build(types: ElementTypes, target: Target, part: dict[str, Any], at: str, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise TooCostly("the values of the patch are nested too deeply")
    if "part" in part:
        if len(target.options) != 1 or is_primitive(target.options[0][1]):
            raise unprocessable(f"{target.element.name} cannot be made of parts", at)
        name, type_name = target.options[0]
        return Value(name, _assemble(types, type_name, part, at, depth))
    if "resource" in part:
        if target.element.types != ("Resource",):
            raise unprocessable(f"{target.element.name} is no resource", at)
        return Value(target.element.name, copy.deepcopy(part["resource"]))
    open_choice = types.elements("Parameters.parameter")["value"]
    for name, type_name in open_choice.json_names():
        if name in part or "_" + name in part:
            value, extra = copy.deepcopy((part.get(name), part.get("_" + name)))
            return Value(_fitting(target, type_name, at), value, extra)
    raise fault(f"{target.element.name} is given no value", at)


def _assemble(
    types: ElementTypes, type_name: str, part: dict[str, Any], at: str, depth: int
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for inner in parts_of(part, at):
        target = find_target(types, type_name, inner["name"])
        if target is None:
            raise unprocessable(f"{type_name} has no element {inner['name'][:64]}", at)
        name, value, extra = _build(types, target, inner, at, depth + 1)
        if target.element.is_list:
            node.insert(made, name, node.length(made, name), value, extra)
        elif name in made or "_" + name in made:
            raise unprocessable(f"{target.element.name} may be there once only", at)
        else:
            node.put(Place(made, name, target.element), value, extra)
    return made


def _fitting(target: Target, type_name: str, at: str) -> str:
    """The JSON name under which `target` takes a value of that type."""
    for name, wanted in target.options:
        if wanted == type_name:
            return name
    # Clients write valueString for a code; the type of a choice, though, is what they say.
    if len(target.options) == 1 and _is_alike(type_name, target.options[0][1]):
        return target.options[0][0]
    raise unprocessable(f"{target.element.name} cannot be a {type_name}", at)


def _is_alike(given: str, wanted: str) -> bool:
    if is_primitive(given) and is_primitive(wanted):
        return _family(given) == _family(wanted)
    return given in _QUANTITIES and wanted in _QUANTITIES


def _family(type_name: str) -> str:
    """The kind of JSON value that a primitive type is."""
    if type_name in _NUMBERS:
        return "number"
    return "boolean" if type_name == "boolean" else "string"
