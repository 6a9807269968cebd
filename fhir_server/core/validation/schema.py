"""Builds the JSON Schema that tells a good resource quickly.

What it accepts is right; what it refuses may still be right and is looked at again by
`explain`. So it is kept small and flat: rare things (contained resources, element ids,
extensions on items of primitive lists, exotic extension values) are simply not in it.
Draft 4, because later drafts take 1.0 for a whole number.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fhir_server.core.validation import reference_text
from fhir_server.core.validation.invariant import Invariants
from fhir_server.core.validation.primitive import PRIMITIVES
from fhir_server.core.validation.type_rules import (
    MAX_ITEMS,
    RESOURCE,
    ElementRule,
    Property,
    TypeRule,
    TypeRules,
)

Schema = dict[str, Any]

_NEVER: Schema = {"not": {}}
_EXTENSION_VALUES = frozenset(PRIMITIVES) | {
    "CodeableConcept",
    "Coding",
    "Identifier",
    "Period",
    "Quantity",
    "Ratio",
    "Reference",
}


def unordered_periods(rules: TypeRules, resource_type: str) -> tuple[str, ...]:
    """The properties whose Periods the schema of a resource type leaves open.

    Only a look at both ends tells whether a Period is in order. Those at the top of a
    resource are met at every turn, so they get that look right after the schema.
    """
    return tuple(
        p.json_name
        for p in rules[resource_type].properties.values()
        if p.type_name == "Period" and not p.element.is_list and not p.is_sibling
    )


def build(rules: TypeRules, invariants: Invariants, resource_type: str) -> Schema:
    """The schema of a resource type with those definitions that it reaches."""
    return _Build(rules, invariants).build(resource_type)


class _Build:
    """Collects definitions. Those of types within an extension are *bare*.

    Bare types have no extensions and refer to no other bare one in a circle; an element
    that leads back to its own ancestor is left out. So no definition reaches itself,
    and depth costs the engine no stack: what nests deep is for `explain` to limit.
    """

    def __init__(self, rules: TypeRules, invariants: Invariants) -> None:
        self._rules = rules
        self._invariants = invariants
        self._definitions: dict[str, Schema] = {}

    def build(self, resource_type: str) -> Schema:
        schema = self._object(resource_type)
        schema["definitions"] = self._definitions
        return schema

    def _object(self, type_name: str, *, is_bare: bool = False) -> Schema:
        rule = self._rules[type_name]
        properties: dict[str, Schema] = {}
        for property_ in rule.properties.values():
            found = self._property(rule, property_, is_bare)
            if found is not None:
                properties[property_.json_name] = found
        schema: Schema = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
        required = [e.name for e in rule.elements if e.minimum and not e.is_choice]
        if rule.is_resource:
            properties["resourceType"] = {"enum": [type_name]}
            required.append("resourceType")
        else:
            # An id alone is no content (ele-1), and ids of elements are rare.
            properties.pop("id", None)
            schema["minProperties"] = 1
        if required:
            schema["required"] = required
        demands = [*self._choices(rule), *(i.guard for i in self._invariants.of(type_name))]
        demands = [demand for demand in demands if demand]
        return {**schema, "allOf": demands} if demands else schema

    def _choices(self, rule: TypeRule) -> Iterable[Schema]:
        for element in rule.elements:
            if not element.is_choice:
                continue
            # With its sibling a primitive has two names for one value.
            names = [
                [name, "_" + name] if "_" + name in rule.properties else [name]
                for name in rule.json_names(element.name)
            ]
            yield {
                "dependencies": {
                    name: {
                        "properties": {
                            n: _NEVER for others in names if others is not own for n in others
                        }
                    }
                    for own in names
                    for name in own
                }
            }
            if element.minimum:
                yield {"anyOf": [{"required": own[:1]} for own in names]}

    def _property(self, rule: TypeRule, property_: Property, is_bare: bool) -> Schema | None:
        element, type_name = property_.element, property_.type_name
        is_circle = "." in type_name and f"{rule.name}.".startswith(f"{type_name}.")
        if type_name == RESOURCE or is_circle:
            return None
        if property_.is_sibling:
            # The two lists of a repeating primitive depend on each other.
            is_left_out = is_bare or element.is_list
            return None if is_left_out else self._typed("Element", is_bare=False)
        if is_bare and (type_name == "Extension" or element.name == "assigner"):
            return None
        if rule.is_resource and type_name == "Period" and not element.is_list:
            item: Schema | None = self._unordered_period()
        else:
            item = self._value(element, type_name, is_bare)
        if item is None or not element.is_list:
            return item
        return {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": item}

    def _value(self, element: ElementRule, type_name: str, is_bare: bool) -> Schema | None:
        if type_name in PRIMITIVES:
            codes = self._rules.codes(element.value_set) if element.value_set else None
            if codes is not None and PRIMITIVES[type_name].json == "string":
                return {"enum": sorted(codes)}
            return PRIMITIVES[type_name].schema()
        if type_name == "Reference":
            return self._pointer(element.targets, is_bare)
        if element.value_set in self._rules.value_sets:
            return self._coded(element.value_set, type_name, is_bare)
        if element.is_simple and type_name == "Quantity":
            return self._simple_quantity(is_bare)
        return self._typed(type_name, is_bare=is_bare)

    def _typed(self, type_name: str, *, is_bare: bool) -> Schema:
        if type_name == "Extension":
            return self._defined("Extension", self._extension)
        name = f"bare-{type_name}" if is_bare else type_name
        return self._defined(name, lambda: self._object(type_name, is_bare=is_bare))

    def _defined(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self._definitions:
            # Claimed before it is made: it is reached again from its own parts.
            self._definitions[name] = {}
            self._definitions[name] = make()
        return {"$ref": f"#/definitions/{name}"}

    def _unordered_period(self) -> Schema:
        def make() -> Schema:
            schema = self._object("Period")
            del schema["allOf"]
            return schema

        return self._defined("unordered-Period", make)

    def _simple_quantity(self, is_bare: bool) -> Schema:
        def make() -> Schema:
            schema = self._object("Quantity", is_bare=is_bare)
            schema["properties"].pop("comparator")
            schema["properties"].pop("_comparator", None)
            return schema

        return self._defined("bare-SimpleQuantity" if is_bare else "SimpleQuantity", make)

    def _pointer(self, targets: Iterable[str], is_bare: bool) -> Schema:
        def make() -> Schema:
            allowed = sorted(targets or self._rules.resource_types)
            schema = self._object("Reference", is_bare=is_bare)
            schema["properties"]["reference"] = {
                "type": "string",
                "pattern": reference_text.plain_pattern(allowed),
            }
            schema["properties"]["type"] = {"enum": allowed}
            schema["properties"]["identifier"] = self._typed("Identifier", is_bare=True)
            return schema

        name = "-".join(("Reference", *sorted(targets)))
        return self._defined(f"bare-{name}" if is_bare else name, make)

    def _coded(self, value_set: str, type_name: str, is_bare: bool) -> Schema | None:
        """A Coding or CodeableConcept all of whose codings are in a value set of one system."""
        systems = self._rules.value_sets[value_set]
        if len(systems) != 1:
            return None
        ((system, codes),) = systems.items()
        coding: Schema = {
            "required": ["system", "code"],
            "properties": {"system": {"enum": [system]}, "code": {"enum": sorted(codes)}},
        }
        demand: Schema = (
            coding
            if type_name == "Coding"
            else {"required": ["coding"], "properties": {"coding": {"items": coding}}}
        )
        return {"allOf": [self._typed(type_name, is_bare=is_bare), demand]}

    def _extension(self, *, has_extensions: bool = True) -> Schema:
        """A url with either a value or extensions, and nothing else: so two properties."""
        rule = self._rules["Extension"]
        properties: dict[str, Schema] = {}
        for property_ in rule.properties.values():
            is_value = property_.element.name == "value"
            if property_.json_name == "url" or (
                is_value and not property_.is_sibling and property_.type_name in _EXTENSION_VALUES
            ):
                found = self._value(property_.element, property_.type_name, True)
                if found is not None:
                    properties[property_.json_name] = found
        if has_extensions:
            flat = self._defined("flat-Extension", lambda: self._extension(has_extensions=False))
            properties["extension"] = {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_ITEMS,
                "items": flat,
            }
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "required": ["url"],
            "minProperties": 2,
            "maxProperties": 2,
        }
