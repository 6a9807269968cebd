"""FHIRPath Patch: operations on the elements that FHIRPaths find.

https://hl7.org/fhir/R4/fhirpatch.html
"""

import copy
from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import Expression, FhirPathError, Focus, Member, Name
from fhir_server.core.patch import node
from fhir_server.core.patch.budget import Budget
from fhir_server.core.patch.locate import Locator
from fhir_server.core.patch.node import Node, Place
from fhir_server.core.patch.operation import PatchOperation, fault, parse_operations
from fhir_server.core.patch.outcome import settle, unprocessable
from fhir_server.core.patch.value import Target, Value, build, find_target
from fhir_server.core.resource_json import Resource
from fhir_server.errors import TooCostly


def apply(
    resource: Resource, parameters: Resource, types: ElementTypes, budget: Budget | None = None
) -> Resource:
    """`resource` with the operations of `parameters` done; neither of them is changed.

    Raises:
        InvalidRequest: `parameters` are no FHIRPath Patch.
        InvalidResource: a path finds nothing or too much, or a value does not fit there.
        TooCostly: there is more to do than one patch may ask for.
    """
    return perform(resource, parse(parameters), types, budget)


def parse(parameters: Any) -> list[PatchOperation]:
    """The operations of `parameters`; raises `InvalidRequest`, `TooCostly`."""
    return parse_operations(parameters)


def perform(
    resource: Resource,
    operations: list[PatchOperation],
    types: ElementTypes,
    budget: Budget | None = None,
) -> Resource:
    """`resource` with `operations` done; raises what `apply` raises."""
    try:
        patched = copy.deepcopy(resource)
        patcher = _Patcher(patched, types, budget or Budget())
        for operation in operations:
            patcher.perform(operation)
        return settle(resource, patched)
    except RecursionError:
        raise TooCostly("the patch, or the resource, is nested too deeply") from None


class _Patcher:
    def __init__(self, resource: Resource, types: ElementTypes, budget: Budget) -> None:
        self._types = types
        self._locator = Locator(resource, types, budget)

    def perform(self, operation: PatchOperation) -> None:
        try:
            match operation.kind:
                case "add":
                    self._add(operation)
                case "insert":
                    self._insert(operation)
                case "delete":
                    self._delete(operation)
                case "replace":
                    self._replace(operation)
                case "move":
                    self._move(operation)
        except FhirPathError as error:
            raise unprocessable(f"the path cannot be followed: {error}", operation.at) from None

    def _add(self, operation: PatchOperation) -> None:
        parent = self._one(operation.path, operation.at)
        target = self._target(parent, operation.name)
        name, value, extra = self._value(target, operation)
        holder = _holder(parent, operation.at)
        element = target.element
        if element.is_list:
            node.insert(holder, name, node.length(holder, name), value, extra)
        elif any(n in holder or "_" + n in holder for n, _ in element.json_names()):
            raise unprocessable(f"{element.name} is there already", operation.at)
        else:
            node.put(Place(holder, name, element), value, extra)

    def _insert(self, operation: PatchOperation) -> None:
        holder, target = self._list(operation)
        name, value, extra = self._value(target, operation)
        if operation.position > node.length(holder, name):
            raise unprocessable("the index is behind the end of the list", operation.at)
        node.insert(holder, name, operation.position, value, extra)

    def _delete(self, operation: PatchOperation) -> None:
        found = self._locator.find(operation.path)
        # What is not there need not be deleted, as R4 has it.
        if found:
            node.remove(_place(_only(found, operation.at), operation.at))

    def _replace(self, operation: PatchOperation) -> None:
        place = _place(self._one(operation.path, operation.at), operation.at)
        name, value, extra = self._value(Target(place.element), operation)
        if name != place.name:
            # A choice of another type from now on.
            node.remove(place)
            place = place._replace(name=name)
        node.put(place, value, extra)

    def _move(self, operation: PatchOperation) -> None:
        holder, target = self._list(operation)
        name = target.element.name
        if max(operation.source, operation.destination) >= node.length(holder, name):
            raise unprocessable("the list has no item at that index", operation.at)
        node.move(holder, name, operation.source, operation.destination)

    def _one(self, path: Expression, at: str) -> Node:
        return _only(self._locator.find(path), at)

    def _list(self, operation: PatchOperation) -> tuple[dict[str, Any], Target]:
        """The list that the path names, which need not be there yet, and what has it."""
        match operation.path:
            case Member(source, name):
                parent = self._one(source, operation.at)
            case Name(name):
                parent = self._one(Focus(), operation.at)
            case _:
                raise unprocessable("the path must end in the name of a list", operation.at)
        target = self._target(parent, name)
        if not target.element.is_list:
            raise unprocessable(f"{target.element.name} is no list", operation.at)
        return _holder(parent, operation.at), target

    def _target(self, parent: Node, name: str) -> Target:
        found = find_target(self._types, self._locator.type_of(parent), name)
        # The locator says what the type lacks.
        return found if found is not None else Target(self._locator.element(parent, name))

    def _value(self, target: Target, operation: PatchOperation) -> Value:
        if operation.value is None:
            raise fault(f"{operation.kind} needs the part value", operation.at)
        return build(self._types, target, operation.value, operation.at)


def _only(found: list[Node], at: str) -> Node:
    if len(found) != 1:
        what = "several elements" if found else "nothing"
        raise unprocessable(f"the path finds {what}; it must find one element", at)
    return found[0]


def _place(found: Node, at: str) -> Place:
    if found.place is None:
        raise unprocessable("the path finds no element within the resource", at)
    return found.place


def _holder(parent: Node, at: str) -> dict[str, Any]:
    """The JSON object that holds the elements of `parent`."""
    if isinstance(parent.value, dict):
        return parent.value
    if isinstance(parent.extra, dict):
        return parent.extra
    # A primitive without extensions so far.
    holder: dict[str, Any] = {}
    node.put(_place(parent, at), parent.value, holder)
    return holder
