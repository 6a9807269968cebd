"""Compiles a profile's tree to checks that look only at what it demands.

What the type demands anyway is left out: `StructureValidator` has seen to it. A check never
raises, whatever a resource is made of: what is not of its type is for others to tell.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation.primitive import PRIMITIVES
from fhir_server.core.validation.profile import UNBOUNDED, Node, Profile
from fhir_server.core.validation.profile_checks import ValueChecks, all_of
from fhir_server.core.validation.profile_element import ElementCheck, Inside, Property
from fhir_server.core.validation.profile_path import FindProfile
from fhir_server.core.validation.profile_run import Check, Run, Where
from fhir_server.core.validation.profile_slices import Conforms, Matchers
from fhir_server.core.validation.profile_slicing import Sliced, lighter
from fhir_server.core.validation.type_rules import RESOURCE, ElementRule, TypeRules


class Surroundings(NamedTuple):
    """What compiling needs to know: R4's types, and what other definitions there are."""

    rules: TypeRules
    types: ElementTypes
    find: FindProfile
    find_codes: Callable[[str], Codes | None]
    conforms: Conforms
    run_profile: Callable[[str, Any, Where, Run], None]


def compile_profile(profile: Profile, around: Surroundings, *, is_thorough: bool) -> Check:
    """The check of a value of the profile's type.

    `is_thorough`: elements that must be supported and are not there are told too.
    """
    return _Compiler(profile, around, is_thorough).value(
        profile.root, profile.type_name, None, profile.type_name
    ) or all_of(())


class _Compiler:
    def __init__(self, profile: Profile, around: Surroundings, is_thorough: bool) -> None:
        self._profile = profile
        self._around = around
        self._is_thorough = is_thorough
        self._checks = ValueChecks(profile, around)
        self._matchers = Matchers(around.find, around.find_codes, around.conforms)

    def value(
        self, node: Node, type_name: str, element: ElementRule | None, spot: str
    ) -> Check | None:
        """What is checked of each value at a node; None for nothing."""
        if type_name == RESOURCE:
            return self._resource(node, spot)
        checks = list(self._checks.of(node, type_name, element, spot))
        if type_name not in PRIMITIVES:
            inside = self._inside(node, type_name, spot)
            if inside is not None:
                checks.append(inside)
        return all_of(checks) if checks else None

    def _inside(self, node: Node, type_name: str, spot: str) -> Inside | None:
        found = [
            check
            for name, child in node.children.items()
            if (check := self._element(name, child, type_name, f"{spot}.{name}")) is not None
        ]
        return Inside(type_name, tuple(found)) if found else None

    def _resource(self, node: Node, spot: str) -> Check | None:
        """Whole resources: contained, or an entry's. Each is the %resource of its own rules."""
        allowed = {t.code for t in node.types or ()} - {RESOURCE, "DomainResource"}
        profiles = {t.code: t.profiles for t in node.types or () if t.profiles}
        compiled: dict[str, Check | None] = {}
        if not (allowed or profiles or node.children or node.rules):
            return None

        def check(value: Any, sibling: Any, where: Where, run: Run) -> None:
            resource_type = value.get("resourceType") if isinstance(value, dict) else None
            if (
                not isinstance(resource_type, str)
                or resource_type not in self._around.rules.resource_types
            ):
                return
            if allowed and resource_type not in allowed:
                text = f"must be {' or '.join(sorted(allowed))}"
                run.add("structure", text, where, self._profile.url, f"{spot} type")
                return
            if resource_type not in compiled:
                compiled[resource_type] = self.value(node, resource_type, None, spot)
            inner = Run(value, run.container)
            inner.depth = run.depth
            inner.faults = run.faults
            own = compiled[resource_type]
            if own is not None:
                own(value, None, where, inner)

        return check

    def _element(self, name: str, node: Node, type_name: str, spot: str) -> ElementCheck | None:
        rule = self._around.rules[type_name]
        element = next((e for e in rule.elements if e.name == name), None)
        if element is None:
            # Of another type than this value has.
            return None
        every = [
            Property(
                p.json_name,
                p.type_name,
                f"_{p.json_name}" if f"_{p.json_name}" in rule.properties else "",
            )
            for p in rule.properties.values()
            if p.element is element and not p.is_sibling
        ]
        allowed = {t.code for t in node.types} if node.types is not None else None
        properties = [
            p for p in every if allowed is None or not element.is_choice or p.type_name in allowed
        ]
        forbidden = frozenset(
            key for p in every if p not in properties for key in (p.json_name, p.sibling) if key
        )
        checks = {
            p.type_name: check
            for p in properties
            if (check := self.value(node, p.type_name, element, spot)) is not None
        }
        sliced = Sliced.of(self, node, element, [p.type_name for p in every], name, spot)
        least = node.minimum or 0
        if least <= element.minimum:
            least = 0
        most = UNBOUNDED if node.maximum is None else node.maximum
        if most == 1 and not element.is_list:
            most = UNBOUNDED
        is_missed = self._is_thorough and node.is_must_support
        if not (checks or forbidden or sliced or least or most != UNBOUNDED or is_missed):
            return None
        return ElementCheck(
            name=name,
            profile=self._profile.url,
            spot=spot,
            is_list=element.is_list,
            properties=tuple(properties),
            kinds=" or ".join(sorted(allowed or ())),
            forbidden=forbidden,
            least=least,
            most=most,
            is_missed=is_missed,
            checks=checks,
            sliced=sliced,
        )

    @property
    def profile_url(self) -> str:
        return self._profile.url

    @property
    def matchers(self) -> Matchers:
        return self._matchers

    def part(self, part: Node, whole: Node) -> Node:
        """A slice without what the whole list is checked for anyway."""
        return lighter(part, whole)
