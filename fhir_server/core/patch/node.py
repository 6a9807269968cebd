"""Nodes: elements of a resource that know where they sit, so that they can be changed.

A primitive sits in two JSON properties at once, its value and, with an underscore, its id
and extensions. https://hl7.org/fhir/R4/json.html#primitive
"""

from typing import Any, NamedTuple

from fhir_server.core.element_types import Element


class Place(NamedTuple):
    """Where a node sits: in the property `name` of `holder`, at `position` if it is a list."""

    holder: dict[str, Any]
    name: str
    element: Element
    position: int | None = None


class Node(NamedTuple):
    """An element, or something computed (`place` is None).

    `extra` holds the id and extensions of a primitive; its `value` may be None then.
    """

    value: Any
    type_name: str
    extra: Any = None
    place: Place | None = None


def nodes_at(holder: dict[str, Any], name: str, type_name: str, element: Element) -> list[Node]:
    """The nodes in the property `name` of `holder`, one that `element` may have."""
    value, extra = holder.get(name), holder.get("_" + name)
    if not element.is_list:
        if value is None and extra is None:
            return []
        return [Node(value, type_name, extra, Place(holder, name, element))]
    values = value if isinstance(value, list) else []
    extras = extra if isinstance(extra, list) else []
    return [
        Node(_at(values, index), type_name, _at(extras, index), Place(holder, name, element, index))
        for index in range(max(len(values), len(extras)))
    ]


def length(holder: dict[str, Any], name: str) -> int:
    """How many items a list has."""
    return max(len(holder.get(name) or ()), len(holder.get("_" + name) or ()))


def put(place: Place, value: Any, extra: Any) -> None:
    """Replace what sits at `place`."""
    if place.position is None:
        _set(place.holder, place.name, value)
        _set(place.holder, "_" + place.name, extra)
        return
    values, extras = _open(place.holder, place.name)
    values[place.position], extras[place.position] = value, extra
    _close(place.holder, place.name, values, extras)


def insert(holder: dict[str, Any], name: str, index: int, value: Any, extra: Any) -> None:
    """Put an item into a list, before the one at `index`."""
    values, extras = _open(holder, name)
    values.insert(index, value)
    extras.insert(index, extra)
    _close(holder, name, values, extras)


def remove(place: Place) -> None:
    """Take away what sits at `place`."""
    if place.position is None:
        place.holder.pop(place.name, None)
        place.holder.pop("_" + place.name, None)
        return
    values, extras = _open(place.holder, place.name)
    del values[place.position], extras[place.position]
    _close(place.holder, place.name, values, extras)


def move(holder: dict[str, Any], name: str, source: int, destination: int) -> None:
    """Put the item at `source` where it then has the index `destination`."""
    values, extras = _open(holder, name)
    values.insert(destination, values.pop(source))
    extras.insert(destination, extras.pop(source))
    _close(holder, name, values, extras)


def _at(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else None


def _set(holder: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        holder.pop(name, None)
    else:
        holder[name] = value


def _open(holder: dict[str, Any], name: str) -> tuple[list[Any], list[Any]]:
    """Both lists of a property, of one length."""
    values, extras = list(holder.get(name) or ()), list(holder.get("_" + name) or ())
    size = max(len(values), len(extras))
    values += [None] * (size - len(values))
    extras += [None] * (size - len(extras))
    return values, extras


def _close(holder: dict[str, Any], name: str, values: list[Any], extras: list[Any]) -> None:
    _set(holder, name, values if any(v is not None for v in values) else None)
    _set(holder, "_" + name, extras if any(e is not None for e in extras) else None)
