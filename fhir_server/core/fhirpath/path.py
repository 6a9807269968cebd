"""Typed paths: an expression resolved against R4's elements.

A choice becomes one path for each of its JSON names, so every path knows the one type
of what it leads to: an Identifier and a Coding look alike, but are not found alike.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import (
    Alternatives,
    Constant,
    Expression,
    FhirPathError,
    Focus,
    Item,
    Member,
    Name,
    OfType,
    Root,
    Where,
)

_MAX_PATHS = 500
_RESOURCE_TYPES = frozenset({"Resource", "DomainResource"})
_QUANTITIES = frozenset(
    {"Quantity", "Age", "Count", "Distance", "Duration", "MoneyQuantity", "SimpleQuantity"}
)


@dataclass(frozen=True, slots=True)
class Field:
    """Into the JSON property `name`, and each of its items if it is a list.

    `index` takes one item of the list only.
    """

    name: str
    type_name: str
    is_list: bool
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Only where `condition` is true of what is reached."""

    condition: Expression
    type_name: str


@dataclass(frozen=True, slots=True)
class OfResource:
    """Only a resource of that type."""

    resource_type: str


@dataclass(frozen=True, slots=True)
class Computed:
    """A boolean made of the whole focus."""

    expression: Expression
    type_name: str


Step = Field | Filter | OfResource | Computed


class Path(NamedTuple):
    """The steps from the focus to values of one type."""

    steps: tuple[Step, ...]
    type_name: str
    is_from_root: bool = False


def is_primitive(type_name: str) -> bool:
    """Whether values of the type are JSON strings, numbers or booleans."""
    return type_name[:1].islower()


def resolve(
    expression: Expression, types: ElementTypes, type_name: str, root: str
) -> tuple[Path, ...]:
    """The paths that `expression` takes from a focus of type `type_name`.

    `root` is the type of the resource around it. There are none if it can lead nowhere, as a
    choice cast to a type that it does not have.

    Raises:
        FhirPathError: it names an element that the type does not have, or is not a path.
    """
    paths = _Resolver(types, type_name, root).paths(expression)
    unique = tuple(dict.fromkeys(paths))
    if len(unique) > _MAX_PATHS:
        raise FhirPathError("the expression leads to too many elements")
    return unique


class _Resolver:
    def __init__(self, types: ElementTypes, type_name: str, root: str) -> None:
        self._types = types
        self._type_name = type_name
        self._root = root

    def paths(self, expression: Expression) -> tuple[Path, ...]:
        match expression:
            case Focus():
                return (Path((), self._type_name),)
            case Root():
                return (Path((), self._root, is_from_root=True),)
            case Name(name):
                if name == self._type_name or (
                    name in _RESOURCE_TYPES and self._type_name == self._root
                ):
                    return (Path((), self._type_name),)
                return self._members((Path((), self._type_name),), name)
            case Member(source, name):
                return self._members(self.paths(source), name)
            case OfType(source, type_name):
                return self._of_type(self.paths(source), type_name)
            case Where(source, condition):
                return tuple(
                    p._replace(steps=(*p.steps, Filter(condition, p.type_name)))
                    for p in self.paths(source)
                )
            case Item(source, index):
                return self._item(self.paths(source), index)
            case Alternatives(items):
                return tuple(path for item in items for path in self.paths(item))
            case Constant():
                raise FhirPathError("a literal is not a path")
            case _:
                return (Path((Computed(expression, self._type_name),), "boolean"),)

    def _members(self, sources: tuple[Path, ...], name: str) -> tuple[Path, ...]:
        found: list[Path] = []
        for path in sources:
            element = self._types.get(path.type_name, name)
            if element is None:
                continue
            for json_name, type_name in element.json_names():
                step = Field(json_name, type_name, element.is_list)
                found.append(path._replace(steps=(*path.steps, step), type_name=type_name))
        if sources and not found:
            raise FhirPathError(f"{sources[0].type_name} has no element {name[:64]}")
        return tuple(found)

    def _of_type(self, sources: tuple[Path, ...], type_name: str) -> tuple[Path, ...]:
        found = []
        for path in sources:
            if _is_a(path.type_name, type_name):
                found.append(path)
            elif path.type_name == "Resource" and self._types.elements(type_name):
                steps = (*path.steps, OfResource(type_name))
                found.append(path._replace(steps=steps, type_name=type_name))
        return tuple(found)

    def _item(self, sources: tuple[Path, ...], index: int) -> tuple[Path, ...]:
        if len(sources) != 1:
            raise FhirPathError("an index of several elements at once")
        (path,) = sources
        lists = [s for s in path.steps if isinstance(s, Field) and s.is_list and s.index is None]
        if not lists:
            return sources if index == 0 else ()
        last = path.steps[-1]
        if len(lists) > 1 or lists[0] is not last or not isinstance(last, Field):
            raise FhirPathError("an index of what repeats at more than one level")
        return (path._replace(steps=(*path.steps[:-1], replace(last, index=index))),)


def _is_a(type_name: str, wanted: str) -> bool:
    # "DateTime" is a slip of R4's own composite parameters.
    return (
        type_name == wanted
        or type_name == wanted[:1].lower() + wanted[1:]
        or (wanted == "Quantity" and type_name in _QUANTITIES)
    )
