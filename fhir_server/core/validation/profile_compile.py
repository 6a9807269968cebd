"""Compiles a profile's tree to checks: plain closures that look only at what it demands.

What the type demands anyway is left out: `StructureValidator` has seen to it. A check never
raises, whatever a resource is made of: what is not of its type is for others to tell.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation.primitive import PRIMITIVES
from fhir_server.core.validation.profile import UNBOUNDED, Node, Profile
from fhir_server.core.validation.profile_checks import Check, ValueChecks, all_of
from fhir_server.core.validation.profile_path import FindProfile
from fhir_server.core.validation.profile_run import Run, Where
from fhir_server.core.validation.profile_slices import Conforms, Matchers
from fhir_server.core.validation.profile_slicing import Item, Sliced, lighter
from fhir_server.core.validation.type_rules import RESOURCE, ElementRule, TypeRules

HolderCheck = Callable[[Mapping[str, Any], Where, Run], None]


class Surroundings(NamedTuple):
    """What compiling needs to know: R4's types, and what other definitions there are."""

    rules: TypeRules
    types: ElementTypes
    find: FindProfile
    find_codes: Callable[[str], Codes | None]
    conforms: Conforms
    run_profile: Callable[[str, Any, Where, Run], None]


class _Property(NamedTuple):
    json_name: str
    type_name: str
    sibling: str


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

    def _inside(self, node: Node, type_name: str, spot: str) -> Check | None:
        found = [
            check
            for name, child in node.children.items()
            if (check := self._element(name, child, type_name, f"{spot}.{name}")) is not None
        ]
        if not found:
            return None
        checks = tuple(found)

        def inside(value: Any, sibling: Any, where: Where, run: Run) -> None:
            if isinstance(value, dict):
                for check in checks:
                    check(value, where, run)

        return inside

    def _resource(self, node: Node, spot: str) -> Check | None:
        """Whole resources: contained, or an entry's. Each is the %resource of its own rules."""
        allowed = {t.code for t in node.types or ()} - {RESOURCE, "DomainResource"}
        profiles = {t.code: t.profiles for t in node.types or () if t.profiles}
        compiled: dict[str, Check | None] = {}
        if not (allowed or profiles or node.children or node.rules):
            return None

        def check(value: Any, sibling: Any, where: Where, run: Run) -> None:
            resource_type = value.get("resourceType") if isinstance(value, dict) else None
            is_named = isinstance(resource_type, str)
            if not is_named or resource_type not in self._around.rules.resource_types:
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

    def _element(self, name: str, node: Node, type_name: str, spot: str) -> HolderCheck | None:
        rule = self._around.rules[type_name]
        element = next((e for e in rule.elements if e.name == name), None)
        if element is None:
            # Of another type than this value has.
            return None
        every = [
            _Property(
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
        collect = _collector(properties, name, is_list=element.is_list)
        profile = self._profile.url
        kinds = " or ".join(sorted(allowed or ()))

        def check_element(holder: Mapping[str, Any], where: Where, run: Run) -> None:
            if forbidden and not forbidden.isdisjoint(holder):
                run.add(
                    "structure", f"must be {kinds}", (where, f".{name}"), profile, f"{spot} type"
                )
                return
            items = collect(holder, where)
            count = len(items)
            if count < least:
                text = f"at least {least} needed, {count} there"
                run.add("required", text, (where, f".{name}"), profile, f"{spot} min")
            elif count > most != UNBOUNDED:
                text = f"at most {most} allowed, {count} there" if most else "is not allowed here"
                run.add("structure", text, (where, f".{name}"), profile, f"{spot} max")
            if is_missed and not count:
                text = "an element that must be supported is not there"
                place: Where = (where, f".{name}")
                run.add("informational", text, place, profile, f"{spot} mustSupport", "information")
            if checks:
                for value, sibling, item_type, at in items:
                    check = checks.get(item_type)
                    if check is not None:
                        check(value, sibling, at, run)
            if sliced:
                sliced.check(items, (where, f".{name}"), run)

        if element.is_list or sliced or len(properties) != 1 or most == 0:
            return check_element
        only = properties[0]
        return _shortened(only, f".{name}", checks.get(only.type_name), forbidden, check_element)

    @property
    def profile_url(self) -> str:
        return self._profile.url

    @property
    def matchers(self) -> Matchers:
        return self._matchers

    def part(self, part: Node, whole: Node) -> Node:
        """A slice without what the whole list is checked for anyway."""
        return lighter(part, whole)


def _shortened(
    only: _Property,
    step: str,
    check: Check | None,
    forbidden: frozenset[str],
    check_element: HolderCheck,
) -> HolderCheck:
    """The same for one value of one type, which is what nearly all elements are."""
    key, _, sibling_key = only

    def check_single(holder: Mapping[str, Any], where: Where, run: Run) -> None:
        value = holder.get(key)
        if value is None or (forbidden and not forbidden.isdisjoint(holder)):
            check_element(holder, where, run)
        elif check is not None:
            sibling = holder.get(sibling_key) if sibling_key else None
            check(value, sibling, (where, step), run)

    return check_single


def _collector(
    properties: Sequence[_Property], name: str, *, is_list: bool
) -> Callable[[Mapping[str, Any], Where], Sequence[Item]]:
    """A function of a holder that gives the items of an element."""
    step = f".{name}"
    if len(properties) == 1 and not properties[0].sibling:
        ((key, type_name, _),) = properties
        if is_list:

            def listed(holder: Mapping[str, Any], where: Where) -> Sequence[Item]:
                values = holder.get(key)
                if not isinstance(values, list):
                    return ()
                above = (where, step)
                return [(v, None, type_name, (above, n)) for n, v in enumerate(values)]

            return listed

        def single(holder: Mapping[str, Any], where: Where) -> Sequence[Item]:
            value = holder.get(key)
            return () if value is None else ((value, None, type_name, (where, step)),)

        return single

    def collect(holder: Mapping[str, Any], where: Where) -> Sequence[Item]:
        found: list[Item] = []
        for key, type_name, sibling_key in properties:
            value = holder.get(key)
            sibling = holder.get(sibling_key) if sibling_key else None
            if value is None and sibling is None:
                continue
            place = (where, step)
            if not is_list:
                found.append((value, sibling, type_name, place))
                continue
            values = value if isinstance(value, list) else []
            others = sibling if isinstance(sibling, list) else []
            for n in range(max(len(values), len(others))):
                one = values[n] if n < len(values) else None
                other = others[n] if n < len(others) else None
                found.append((one, other, type_name, (place, n)))
        return found

    return collect
