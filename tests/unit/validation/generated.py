"""A strategy of resources that conform to a profile, made from the profile's own tree."""

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


class Generated:
    """Makes values of nodes; what is neither demanded by the type nor by the profile is left out.

    `demanded` collects the places that the profile alone asks for, as steps into the JSON.
    """

    def __init__(self, draw, rules: TypeRules, codes) -> None:
        self._draw = draw
        self._rules = rules
        self._codes = codes
        self.demanded: list[tuple[Any, ...]] = []

    def value(self, node: Node, type_name: str, path: tuple[Any, ...]) -> Any:
        if node.fixed is not ABSENT:
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
            parts = [s for s in child.slices.values() if (s.minimum or 0) > 0]
            if not needed and not parts:
                continue
            types = [t.code for t in child.types or ()] if child.types else list(element.types)
            chosen = element.types[0] if "." in element.types[0] else types[0]
            name = element.name
            if element.is_choice:
                name += chosen[0].upper() + chosen[1:]
            if (child.minimum or 0) > element.minimum or parts:
                self.demanded.append((*path, name))
            made[name] = self._element(child, element, chosen, parts, needed, (*path, name))
        if type_name == "CodeableConcept" and not made:
            made = {"text": self._draw(_PRIMITIVES["string"])}
        if type_name == "Reference":
            target = (
                node.types[0].targets[0] if node.types and node.types[0].targets else "/Patient"
            )
            made = {"reference": target.rpartition("/")[2] + "/1"}
        return made

    def _element(self, child, element, chosen, parts, needed, path) -> Any:
        if not element.is_list:
            if chosen == "code" and element.value_set and child.fixed is ABSENT:
                return self._draw(st.sampled_from(sorted(self._rules.codes(element.value_set))))
            return self.value(child, chosen, path)
        made = []
        for part in parts:
            made.append(self.value(part, chosen, (*path, len(made))))
        while len(made) < needed:
            made.append(self.value(child, chosen, (*path, len(made))))
        return made
