"""Finds every structural fault of a resource and names the element it sits in.

The arbiter: the schema only tells good resources quickly. Paths are the simple FHIRPath
of `OperationOutcome.issue.expression`, so a choice is named without its type
(``Observation.component[0].value.value``); the message names the JSON property.
"""

import re
from collections.abc import Mapping
from typing import Any

from fhir_server.core.resource_json import Resource
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
from fhir_server.errors import Issue

MAX_ISSUES = 500
MAX_DEPTH = 64
_MAX_LISTED_CODES = 30
_PROPERTY_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


def explain(
    rules: TypeRules, invariants: Invariants, resource: Resource
) -> tuple[list[Issue], list[tuple[str, Any]]]:
    """The faults of `resource`, and the resources in it that stand for themselves.

    Those (an entry's of a Bundle, a parameter's of Parameters) come with their paths and
    are not looked into; contained resources are. `resourceType` must be known.
    """
    explanation = _Explanation(rules, invariants, resource)
    explanation.run()
    return explanation.issues, explanation.embedded


class _Explanation:
    def __init__(self, rules: TypeRules, invariants: Invariants, root: Resource) -> None:
        self.issues: list[Issue] = []
        self.embedded: list[tuple[str, Any]] = []
        self._rules = rules
        self._invariants = invariants
        self._root = root
        self._root_type: str = root["resourceType"]
        self._contained = _contained_types(root)
        self._mentioned: set[str] = set()

    def run(self) -> None:
        self._object(self._root, self._root_type, self._root_type, 0)
        contained = self._root.get("contained")
        if isinstance(contained, list) and len(contained) <= MAX_ITEMS:
            self._check_contained(contained, f"{self._root_type}.contained")

    def _add(self, code: str, path: str, text: str) -> None:
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(code, text, path))

    def _object(self, value: Any, type_name: str, path: str, depth: int) -> None:
        rule = self._rules[type_name]
        if not isinstance(value, dict):
            self._add("structure", path, f"must be a JSON object ({type_name})")
            return
        if depth > MAX_DEPTH:
            self._add("structure", path, f"is nested deeper than {MAX_DEPTH} elements")
            return
        if len(self.issues) >= MAX_ISSUES:
            return
        if not value.keys() - {"id"} and not rule.is_resource:
            self._add("invariant", path, "must have a value or children (ele-1)")
            return
        for name, item in value.items():
            property_ = rule.properties.get(name)
            if property_ is not None:
                self._property(property_, item, value, path, depth)
            elif not (rule.is_resource and name == "resourceType"):
                self._unknown(name, type_name, path)
        self._check_presence(rule, value, path)
        for invariant in self._invariants.of(type_name):
            if not invariant.holds(value):
                self._add("invariant", path, f"{invariant.text} ({invariant.key})")

    def _unknown(self, name: object, type_name: str, path: str) -> None:
        # A key is the client's own text and might be anything.
        if isinstance(name, str) and _PROPERTY_NAME.fullmatch(name):
            self._add("structure", f"{path}.{name}", f"{name} is no element of {type_name}")
        else:
            self._add("structure", path, f"holds a key that is no element of {type_name}")

    def _check_presence(self, rule: TypeRule, value: Mapping[str, Any], path: str) -> None:
        for element in rule.elements:
            if not element.minimum and not element.is_choice:
                continue
            names = rule.json_names(element.name)
            found = [n for n in names if n in value or "_" + n in value]
            where = f"{path}.{element.name}"
            if element.minimum and not found:
                name = f"{element.name}[x]" if element.is_choice else element.name
                self._add("required", where, f"{name} is required")
            elif len(found) > 1:
                self._add("structure", where, f"only one of {', '.join(found)} may be there")

    def _property(
        self, property_: Property, item: Any, parent: Mapping[str, Any], path: str, depth: int
    ) -> None:
        element = property_.element
        where = f"{path}.{element.name}"
        if isinstance(item, list) and len(item) > MAX_ITEMS:
            self._add("too-long", where, f"{property_.json_name} has more than {MAX_ITEMS} items")
        elif property_.type_name in PRIMITIVES:
            self._primitive_property(property_, item, parent, where, depth)
        elif not element.is_list:
            self._value(property_, item, where, depth)
        elif not isinstance(item, list):
            self._add("structure", where, f"{property_.json_name} must be a JSON array")
        elif not item:
            self._add("structure", where, f"{property_.json_name} must not be an empty array")
        elif element.name == "contained":
            if parent is not self._root:
                self._add("invariant", where, "a contained resource must not contain any (dom-2)")
        else:
            for index, one in enumerate(item):
                self._value(property_, one, f"{where}[{index}]", depth)

    def _value(self, property_: Property, item: Any, where: str, depth: int) -> None:
        element, type_name = property_.element, property_.type_name
        if item is None:
            self._add("structure", where, f"{property_.json_name} must not be null")
        elif type_name == RESOURCE:
            self.embedded.append((where, item))
        else:
            self._object(item, type_name, where, depth + 1)
            if isinstance(item, dict):
                self._check_use(element, type_name, item, where)

    def _check_use(
        self, element: ElementRule, type_name: str, item: Mapping[str, Any], where: str
    ) -> None:
        """What the place demands of a value beyond its type."""
        if type_name == "Reference":
            self._check_reference(element, item, where)
        elif element.is_simple and type_name == "Quantity" and "comparator" in item:
            self._add("invariant", where, "the comparator is not used here (sqty-1)")
        elif element.value_set in self._rules.value_sets:
            self._check_coded(element.value_set, type_name, item, where)

    def _check_reference(self, element: ElementRule, item: Mapping[str, Any], where: str) -> None:
        allowed = element.targets or self._rules.resource_types
        kinds = " or ".join(element.targets) or "a resource"
        text = item.get("reference")
        if isinstance(text, str) and text:
            pointing = reference_text.read(text)
            at = f"{where}.reference"
            if pointing is None:
                self._add("value", at, "must be Type/id, #id, or an absolute URL")
            elif pointing.contained_id is not None:
                self._mentioned.add(pointing.contained_id)
                target = self._target_inside(pointing.contained_id)
                if target is None:
                    self._add("invariant", at, "must point to a contained resource (ref-1)")
                elif target not in allowed:
                    self._add("value", at, f"must point to {kinds}")
            elif pointing.resource_type is not None and pointing.resource_type not in allowed:
                self._add("value", at, f"must point to {kinds}")
        kind = item.get("type")
        if (
            element.targets
            and isinstance(kind, str)
            and kind in self._rules.resource_types
            and kind not in allowed
        ):
            self._add("value", f"{where}.type", f"must be {kinds}")

    def _target_inside(self, contained_id: str) -> str | None:
        return self._root_type if not contained_id else self._contained.get(contained_id)

    def _check_coded(
        self, value_set: str, type_name: str, item: Mapping[str, Any], where: str
    ) -> None:
        if type_name == "Coding":
            codings: list[Any] = [item]
        elif type_name == "CodeableConcept":
            found = item.get("coding")
            codings = found if isinstance(found, list) else []
            if not codings and "text" not in item:
                return  # Extensions alone may say why there is no code.
        else:
            return
        systems = self._rules.value_sets[value_set]
        for coding in codings:
            system, code = _system_and_code(coding)
            if code in systems.get(system, ()):
                return
        self._add("code-invalid", where, f"must have a code of {value_set}")

    def _primitive_property(
        self, property_: Property, item: Any, parent: Mapping[str, Any], where: str, depth: int
    ) -> None:
        element, name = property_.element, property_.json_name
        if element.is_list:
            self._primitive_list(property_, item, parent, where, depth)
        elif item is None:
            self._add("structure", where, f"{name} must not be null")
        elif property_.is_sibling:
            self._object(item, "Element", where, depth + 1)
        else:
            self._primitive(property_, item, where)

    def _primitive_list(
        self, property_: Property, item: Any, parent: Mapping[str, Any], where: str, depth: int
    ) -> None:
        name = property_.json_name
        if not isinstance(item, list):
            self._add("structure", where, f"{name} must be a JSON array")
            return
        if not item:
            self._add("structure", where, f"{name} must not be an empty array")
            return
        other = parent.get(name[1:] if property_.is_sibling else "_" + name)
        others = other if isinstance(other, list) else []
        for index, one in enumerate(item):
            at = f"{where}[{index}]"
            if one is None:
                if index >= len(others) or others[index] is None:
                    self._add("structure", at, f"{name} is null and has no extension instead")
            elif property_.is_sibling:
                self._object(one, "Element", at, depth + 1)
            else:
                self._primitive(property_, one, at)

    def _primitive(self, property_: Property, value: Any, where: str) -> None:
        primitive = PRIMITIVES[property_.type_name]
        name, value_set = property_.json_name, property_.element.value_set
        if not primitive.is_of_type(value):
            self._add("structure", where, f"{name} must be {primitive.meaning}")
            return
        codes = self._rules.codes(value_set) if value_set else None
        if codes is not None and isinstance(value, str):
            if value not in codes:
                self._add("code-invalid", where, f"{name} must be {_listed(codes, value_set)}")
        elif not primitive.is_legal(value):
            self._add("value", where, f"{name} must be {primitive.meaning}")
        if isinstance(value, str) and value.startswith("#"):
            self._mentioned.add(value[1:])

    def _check_contained(self, contained: list[Any], path: str) -> None:
        seen: set[str] = set()
        for index, item in enumerate(contained):
            where = f"{path}[{index}]"
            if not isinstance(item, dict):
                self._add("structure", where, "must be a JSON object (a resource)")
                continue
            type_name = item.get("resourceType")
            if not isinstance(type_name, str) or type_name not in self._rules.resource_types:
                self._add("structure", where, "resourceType must be a resource type of FHIR R4")
                continue
            self._object(item, type_name, where, 1)
            self._check_contained_frame(item, where, seen)
        for index, item in enumerate(contained):
            # dom-3; one that points to its container is used by its own doing.
            name = item.get("id") if isinstance(item, dict) else None
            if isinstance(name, str) and name not in self._mentioned and "" not in self._mentioned:
                text = "nothing refers to this contained resource (dom-3)"
                self._add("invariant", f"{path}[{index}]", text)

    def _check_contained_frame(self, item: Resource, where: str, seen: set[str]) -> None:
        name = item.get("id")
        if not isinstance(name, str):
            self._add("required", f"{where}.id", "a contained resource needs an id")
        elif name in seen:
            self._add("invariant", f"{where}.id", "two contained resources have the same id")
        else:
            seen.add(name)
        meta = item.get("meta")
        if isinstance(meta, dict):
            if "versionId" in meta or "lastUpdated" in meta:
                self._add("invariant", f"{where}.meta", "must have no version of its own (dom-4)")
            if "security" in meta:
                self._add("invariant", f"{where}.meta", "must have no security label (dom-5)")


def _system_and_code(coding: Any) -> tuple[str, str]:
    """Empty where there is none, or none that is a text."""
    if not isinstance(coding, dict):
        return "", ""
    system, code = coding.get("system"), coding.get("code")
    return system if isinstance(system, str) else "", code if isinstance(code, str) else ""


def _contained_types(root: Resource) -> dict[str, str]:
    contained = root.get("contained")
    if not isinstance(contained, list):
        return {}
    return {
        item["id"]: item["resourceType"]
        for item in contained
        if isinstance(item, dict)
        and isinstance(item.get("id"), str)
        and isinstance(item.get("resourceType"), str)
    }


def _listed(codes: frozenset[str], value_set: str) -> str:
    if len(codes) > _MAX_LISTED_CODES:
        return f"a code of {value_set}"
    return f"one of {', '.join(sorted(codes))}"
