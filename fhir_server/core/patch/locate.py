"""Where a FHIRPath leads in one resource: the nodes it finds, with their places.

Search compiles its expressions; a patch's is met once, so it is walked.
https://hl7.org/fhirpath/N1/
"""

from typing import Any

from fhir_server.core.element_types import Element, ElementTypes
from fhir_server.core.fhirpath.expression import (
    Alternatives,
    Call,
    Constant,
    Expression,
    FhirPathError,
    Focus,
    IsType,
    Item,
    Member,
    Name,
    OfType,
    Operation,
    Resolve,
    Root,
    Where,
)
from fhir_server.core.patch.budget import Budget
from fhir_server.core.patch.node import Node, nodes_at
from fhir_server.core.resource_json import Resource

_RESOURCES = frozenset({"Resource", "DomainResource"})
_MAX_NAME_SHOWN = 64


class Locator:
    """Evaluates paths on `resource`; each node that they visit is a step of `budget`."""

    def __init__(self, resource: Resource, types: ElementTypes, budget: Budget) -> None:
        self._types = types
        self._root = Node(resource, resource["resourceType"])
        self._budget = budget

    def find(self, expression: Expression) -> list[Node]:
        """What `expression` finds.

        Raises:
            FhirPathError: it names what a type does not have, or leads out of the resource.
            TooCostly: it looks at more than a patch may.
        """
        return self._find(expression, [self._root])

    def element(self, node: Node, name: str) -> Element:
        """The element `name` of what `node` is.

        Raises:
            FhirPathError: it has none.
        """
        element = self._types.get(self.type_of(node), name)
        if element is None:
            raise FhirPathError(f"{self.type_of(node)} has no element {name[:_MAX_NAME_SHOWN]}")
        return element

    def type_of(self, node: Node) -> str:
        """The type whose elements `node` has: a primitive's are those of every element."""
        if node.type_name in _RESOURCES and isinstance(node.value, dict):
            return str(node.value.get("resourceType"))
        return node.type_name if self._types.elements(node.type_name) else "Element"

    def _find(self, expression: Expression, focus: list[Node]) -> list[Node]:
        match expression:
            case Focus():
                return focus
            case Root():
                return [self._root]
            case Constant(value):
                return [Node(value, _type_of(value))]
            case Name(name):
                is_root = len(focus) == 1 and focus[0] is self._root
                if is_root and name in (self._root.type_name, *_RESOURCES):
                    return focus
                return self._children(focus, name)
            case Member(source, name):
                return self._children(self._find(source, focus), name)
            case Where(source, condition):
                found = self._find(source, focus)
                return [node for node in found if self._truth(condition, [node]) is True]
            case Item(source, index):
                return self._find(source, focus)[index : index + 1]
            case OfType(source, type_name):
                found = self._find(source, focus)
                return [node for node in found if self._is_a(node, type_name)]
            case Alternatives(items):
                return _distinct([node for item in items for node in self._find(item, focus)])
            case Resolve():
                raise FhirPathError("a patch stays within its resource: resolve() is refused")
            case _:
                truth = self._truth(expression, focus)
                return [] if truth is None else [Node(truth, "boolean")]

    def _children(self, nodes: list[Node], name: str) -> list[Node]:
        found: list[Node] = []
        for node in nodes:
            element = self.element(node, name)
            holder = node.value if isinstance(node.value, dict) else node.extra
            if isinstance(holder, dict):
                for json_name, code in element.json_names():
                    found += nodes_at(holder, json_name, code, element)
        self._budget.spend(len(nodes) + len(found))
        return found

    def _is_a(self, node: Node, type_name: str) -> bool:
        actual = self.type_of(node) if node.type_name in _RESOURCES else node.type_name
        return type_name in (actual, actual[:1].upper() + actual[1:])

    def _truth(self, expression: Expression, focus: list[Node]) -> bool | None:
        match expression:
            case Operation("and", left, right):
                both = self._truth(left, focus), self._truth(right, focus)
                return False if False in both else None if None in both else True
            case Operation("or", left, right):
                either = self._truth(left, focus), self._truth(right, focus)
                return True if True in either else None if None in either else False
            case Operation(operator, left, right):
                equal = _equal(self._find(left, focus), self._find(right, focus))
                return equal if equal is None or operator == "=" else not equal
            case Call(source, "exists"):
                return bool(self._find(source, focus))
            case Call(source, "empty"):
                return not self._find(source, focus)
            case Call(source, "hasValue"):
                found = self._find(source, focus)
                return len(found) == 1 and found[0].value is not None
            case Call(source, _):
                truth = self._truth(source, focus)
                return None if truth is None else not truth
            case IsType(Resolve(), _):
                raise FhirPathError("a patch stays within its resource: resolve() is refused")
            case IsType(source, type_name):
                found = self._find(source, focus)
                return self._is_a(found[0], type_name) if len(found) == 1 else None
            case _:
                found = self._find(expression, focus)
                if len(found) != 1:
                    return None
                return found[0].value if isinstance(found[0].value, bool) else True


def _equal(left: list[Node], right: list[Node]) -> bool | None:
    if not left or not right:
        return None
    return len(left) == len(right) and all(
        a.value == b.value and isinstance(a.value, bool) == isinstance(b.value, bool)
        for a, b in zip(left, right, strict=True)
    )


def _distinct(nodes: list[Node]) -> list[Node]:
    seen: set[tuple[int, str, int | None]] = set()
    found: list[Node] = []
    for node in nodes:
        if node.place is not None:
            where = (id(node.place.holder), node.place.name, node.place.position)
            if where in seen:
                continue
            seen.add(where)
        found.append(node)
    return found


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "integer"}.get(type(value), "decimal")
