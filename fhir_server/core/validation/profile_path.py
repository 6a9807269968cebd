"""Discriminator paths: which values of an item, and which nodes of a slice, they lead to.

https://hl7.org/fhir/R4/profiling.html#discriminator
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fhir_server.core.validation.profile import Node, Profile, ProfileFault

_STEP = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9]*)(?:\[x\])?$"
    r"|extension\('(?P<url>[^']+)'\)$|(?P<resolve>resolve\(\))$|ofType\((?P<type>[A-Za-z]+)\)$"
)
_DOT = re.compile(r"\.(?![^(]*\))")

FindProfile = Callable[[str], Profile | None]


class Step(NamedTuple):
    """Into an element, an extension by its URL, what a reference points to, or one type."""

    name: str = ""
    url: str = ""
    is_resolve: bool = False
    type_name: str = ""


def parse(path: str) -> tuple[Step, ...]:
    """The steps of a discriminator's path; none for ``$this``.

    Raises:
        ProfileFault: a discriminator may not say this.
    """
    steps: list[Step] = []
    for text in _DOT.split(path):
        if text == "$this":
            continue
        found = _STEP.match(text)
        if found is None:
            raise ProfileFault("slicing: a discriminator has a path that is not supported")
        steps.append(
            Step(
                found["name"] or "", found["url"] or "", bool(found["resolve"]), found["type"] or ""
            )
        )
    return tuple(steps)


def nodes(start: Node, steps: Sequence[Step], find: FindProfile) -> list[Node]:
    """The nodes of a slice that speak of what the path leads to, those of its profiles too."""
    reached = list(_with_profiles(start, find))
    for step in steps:
        if step.is_resolve:
            reached = [p.root for node in reached for p in _targets(node, find)]
            continue
        following: list[Node] = []
        for node in reached:
            for child in _children(node, step):
                following += _with_profiles(child, find)
        reached = following
    return reached


def values(start: Any, steps: Sequence[Step]) -> list[Any]:
    """The values that the path leads to in an item."""
    found = [start]
    for step in steps:
        name = step.name
        following: list[Any] = []
        for item in found:
            value = item.get(name) if name and type(item) is dict else None
            if value is None:
                following += _into(item, step)
            elif type(value) is list:
                following += value
            else:
                following.append(value)
        found = following
    return found


def _children(node: Node, step: Step) -> Iterator[Node]:
    if step.type_name:
        yield node
        for part in node.slices.values():
            if part.types and any(t.code == step.type_name for t in part.types):
                yield part
        return
    name = "extension" if step.url else step.name
    for above in (node, *node.slices.values()):
        child = above.children.get(name)
        if child is None:
            continue
        if not step.url:
            yield child
            yield from child.slices.values()
        else:
            for part in child.slices.values():
                url = part.children.get("url")
                own = part.types[0].profiles if part.types else ()
                if step.url in own or (url is not None and url.fixed == step.url):
                    yield part


def _with_profiles(node: Node, find: FindProfile) -> Iterator[Node]:
    yield node
    for type_ in node.types or ():
        for url in type_.profiles:
            profile = find(url)
            if profile is not None:
                yield profile.root


def _targets(node: Node, find: FindProfile) -> Iterator[Profile]:
    for type_ in node.types or ():
        for url in type_.targets:
            profile = find(url)
            if profile is not None:
                yield profile


def _into(item: Any, step: Step) -> Iterator[Any]:
    if not isinstance(item, dict):
        return
    if step.type_name:
        yield item
        return
    if step.url:
        for extension in _list(item.get("extension")):
            if isinstance(extension, dict) and extension.get("url") == step.url:
                yield extension
        return
    size = len(step.name)
    for name, value in item.items():
        # A choice: valueQuantity for value.
        if name.startswith(step.name) and name[size : size + 1].isupper():
            yield from _list(value)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
