"""Belonging: which slice an item belongs to, as Python text.

All slices of a list are told apart in one walk through the item.
"""

from collections.abc import Sequence

from fhir_server.core.validation.primitive import PRIMITIVES
from fhir_server.core.validation.profile_path import Step
from fhir_server.core.validation.profile_slices import (
    Belongs,
    ByAll,
    ByType,
    ByUrl,
    ByValue,
    IsValue,
)
from fhir_server.core.validation.profile_slicing import Slice
from fhir_server.core.validation.profile_source import Source
from fhir_server.core.validation.type_rules import RESOURCE, Property, TypeRules


class _Place:
    """Where paths of discriminators come by: what is asked there, and where they go on."""

    def __init__(self) -> None:
        self.flags: dict[str, tuple[str, IsValue]] = {}
        self.children: dict[Property, _Place] = {}


class Belonging:
    """The conditions of slices for items of one type, and a counter for each slice."""

    def __init__(
        self, source: Source, rules: TypeRules, type_name: str, slices: Sequence[Slice]
    ) -> None:
        self._source = source
        self._rules = rules
        self._type_name = type_name
        self._slices = slices
        self._root = _Place()
        self.counters = [source.variable() for _ in slices]

    def write_counters(self, depth: int) -> None:
        for counter in self.counters:
            self._source.line(depth, f"{counter} = 0")

    def write_conditions(self, item: str, depth: int) -> list[str]:
        """Statements that look at the variable `item`, then a condition for each slice."""
        conditions = [self._condition(part.belongs, item) for part in self._slices]
        for flag in _flags(self._root):
            self._source.line(depth, f"{flag} = False")
        self._walk(self._root, item, depth)
        return conditions

    def _condition(self, belongs: Belongs, item: str) -> str:
        match belongs:
            case ByAll(tests):
                return f"({' and '.join(self._condition(test, item) for test in tests)})"
            case ByUrl(urls):
                return f"({item}.get('url') in {self._source.name(urls)})"
            case ByType(types) if self._type_name != RESOURCE:
                return repr(self._type_name in types)
            case ByValue(steps, tests):
                known = [test for test in tests if isinstance(test, IsValue)]
                place = self._place(steps) if len(known) == len(tests) else None
                if place is not None:
                    return " and ".join(self._flag(place, test) for test in known)
        return f"{self._source.name(belongs)}({item}, {self._type_name!r}, run)"

    def _flag(self, place: _Place, test: IsValue) -> str:
        asked = f"{test.is_whole} {test.expected!r}"
        return place.flags.setdefault(asked, (self._source.variable(), test))[0]

    def _place(self, steps: Sequence[Step]) -> _Place | None:
        """None where steps lead to no one property, or to different ones at a time."""
        place, type_name = self._root, self._type_name
        for step in steps:
            found = self._property(type_name, step)
            if found is None:
                return None
            place = place.children.setdefault(found, _Place())
            type_name = found.type_name
        return place

    def _property(self, type_name: str, step: Step) -> Property | None:
        if not step.name or type_name in PRIMITIVES or type_name == RESOURCE:
            return None
        size = len(step.name)
        named = [
            p
            for name, p in self._rules[type_name].properties.items()
            if name == step.name or (name.startswith(step.name) and name[size : size + 1].isupper())
        ]
        return named[0] if len(named) == 1 else None

    def _walk(self, place: _Place, value: str, depth: int) -> None:
        source = self._source
        for flag, test in place.flags.values():
            if isinstance(test.expected, str) or not test.is_whole:
                text = source.contains(test.expected, value)
            else:
                text = f"{source.name(test)}({value})"
            source.line(depth, f"if {text}: {flag} = True")
        for property_, child in place.children.items():
            inner = source.variable()
            source.line(depth, f"{inner} = {value}.get({property_.json_name!r})")
            source.line(depth, f"if {inner} is not None:")
            if property_.element.is_list:
                item = source.variable()
                source.line(depth + 1, f"for {item} in {inner}:")
                self._walk(child, item, depth + 2)
            else:
                self._walk(child, inner, depth + 1)


def _flags(place: _Place) -> list[str]:
    own = [flag for flag, _ in place.flags.values()]
    return [*own, *(f for child in place.children.values() for f in _flags(child))]
