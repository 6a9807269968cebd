"""A strategy of resources that conform to a profile, made from the profile's own tree."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from fhir_server.core.validation.profile import ABSENT, Node
from fhir_server.core.validation.type_rules import TypeRules

_PRIMITIVES = {
    "boolean": st.booleans(),
    "integer": st.integers(-1000, 1000),
    "positiveInt": st.integers(1, 1000),
    "unsignedInt": st.integers(0, 1000),
    "decimal": st.decimals(-999, 999, places=2).map(Decimal),
    "string": st.text("абвxyz", min_size=1, max_size=8),
    "markdown": st.text("абвxyz", min_size=1, max_size=8),
    "uri": st.just("urn:x:y"),
    "url": st.just("urn:x:y"),
    "canonical": st.just("urn:x:y"),
    "code": st.text("abc", min_size=1, max_size=5),
    "id": st.text("abc", min_size=1, max_size=5),
    "date": st.dates().map(lambda d: f"{d.year:04}-{d.month:02}-{d.day:02}"),
    "dateTime": st.dates().map(lambda d: f"{d.year:04}-{d.month:02}-{d.day:02}T08:00:00Z"),
    "instant": st.dates().map(lambda d: f"{d.year:04}-{d.month:02}-{d.day:02}T08:00:00Z"),
}

_NOT_EMPTY: dict[str, dict[str, Any]] = {
    "Coding": {"system": "urn:x", "code": "x"},
    "Period": {"start": "2026-03-01"},
    "Quantity": {"value": 1},
    "Range": {"low": {"value": 1}},
}


class Generated:
    """Makes values of nodes; what is neither demanded by the type nor by the profile is left out.

    `demanded` collects the places that the profile alone asks for, as steps into the JSON;
    `fixed` those whose value it fixes, neither within what may be left out. With options,
    slices that may be there sometimes are.
    """

    def __init__(self, draw, rules: TypeRules, codes, *, has_options: bool = False) -> None:
        self._draw = draw
        self._rules = rules
        self._codes = codes
        self._has_options = has_options
        self._is_optional = False
        self.demanded: list[tuple[Any, ...]] = []
        self.fixed: list[tuple[Any, ...]] = []

    def value(
        self, node: Node, type_name: str, path: tuple[Any, ...], targets: Sequence[str] = ()
    ) -> Any:
        if node.fixed is not ABSENT:
            if not self._is_optional:
                self.fixed.append(path)
            return node.fixed
        if type_name in _PRIMITIVES:
            codes = node.binding and self._codes(node.binding.value_set)
            if codes:
                return self._draw(st.sampled_from(sorted(code for _, code in codes.single)))
            return self._draw(_PRIMITIVES[type_name])
        made = dict(node.pattern) if node.pattern is not ABSENT else {}
        for element in self._rules[type_name].elements:
            child = node.children.get(element.name, Node())
            if child.maximum == 0 or element.name in made:
                continue
            needed = max(child.minimum or 0, element.minimum)
            parts = self._parts(child)
            if not needed and not parts:
                continue
            types = [t.code for t in child.types or ()] if child.types else list(element.types)
            chosen = element.types[0] if "." in element.types[0] else types[0]
            name = element.name
            if element.is_choice:
                name += chosen[0].upper() + chosen[1:]
            is_demanded = (child.minimum or 0) > element.minimum or any(p.minimum for p in parts)
            if is_demanded and not self._is_optional:
                self.demanded.append((*path, name))
            made[name] = self._element(child, element, chosen, parts, needed, (*path, name))
        if self._has_options:
            self._bind(made, node, type_name)
        if type_name == "CodeableConcept" and not made:
            made = {"text": self._draw(_PRIMITIVES["string"])}
        if type_name == "Period" and "end" in made:
            made["start"], made["end"] = sorted((made["start"], made["end"]))
        if not made:
            made = dict(_NOT_EMPTY.get(type_name, {}))
        if type_name == "Reference":
            said = node.types[0].targets if node.types else ()
            target = (said or targets or ("Patient",))[0].rpartition("/")[2]
            made = {"reference": f"{target}/1"}
        return made

    def _parts(self, child: Node) -> list[Node]:
        """The slices that are needed, and some of the others."""
        return [
            part
            for name, part in child.slices.items()
            if (part.minimum or 0) > 0
            or (self._has_options and _is_plain(part) and self._draw(st.booleans(), label=name))
        ]

    def _bind(self, made: dict[str, Any], node: Node, type_name: str) -> None:
        """A code of the value set that must be one, where the profile does not fix it."""
        codes = node.binding and node.binding.strength == "required"
        found = codes and node.binding and self._codes(node.binding.value_set)
        if not found or type_name not in ("CodeableConcept", "Quantity"):
            return
        system, code = self._draw(st.sampled_from(sorted(found.single)))
        if type_name == "Quantity":
            made.update(system=system, code=code)
        elif made.get("coding"):
            made["coding"][0].update(system=system, code=code)
        else:
            made["coding"] = [{"system": system, "code": code}]

    def _element(self, child, element, chosen, parts, needed, path) -> Any:
        if not element.is_list:
            is_bound = child.binding is not None and self._has_options
            if chosen == "code" and element.value_set and child.fixed is ABSENT and not is_bound:
                return self._draw(st.sampled_from(sorted(self._rules.codes(element.value_set))))
            return self.value(child, chosen, path, element.targets)
        made = []
        for part in parts:
            both = merged(child, part) if self._has_options else part
            was_optional = self._is_optional
            # Without what tells it apart, an item of a slice is only an item.
            self._is_optional = was_optional or not part.minimum
            made.append(self.value(both, chosen, (*path, len(made)), element.targets))
            self._is_optional = was_optional
        while len(made) < needed:
            made.append(self.value(child, chosen, (*path, len(made)), element.targets))
        return made


def _is_plain(part: Node) -> bool:
    return part.maximum != 0 and not any(t.profiles for t in part.types or ())


def merged(whole: Node, part: Node) -> Node:
    """A slice with what its element demands of every item."""
    children = {**whole.children}
    for name, child in part.children.items():
        children[name] = merged(children[name], child) if name in children else child
    return replace(
        part,
        children=children,
        slices={**whole.slices, **part.slices} if part.slices else part.slices,
        types=part.types or whole.types,
        minimum=max(part.minimum or 0, whole.minimum or 0),
        fixed=whole.fixed if part.fixed is ABSENT else part.fixed,
        binding=part.binding or whole.binding,
    )
