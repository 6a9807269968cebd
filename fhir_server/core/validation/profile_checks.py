"""What a profile demands of one value: fixed, pattern, limits, binding, rules, references."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fhir_server.core.validation import reference_text
from fhir_server.core.validation.profile import ABSENT, RESOURCE_BASE, Node, Profile, TypeRef
from fhir_server.core.validation.profile_binding import compile_binding
from fhir_server.core.validation.profile_invariant import compile_rule
from fhir_server.core.validation.profile_run import Check, Run, Where
from fhir_server.core.validation.profile_value import contains, equals, is_above, is_below
from fhir_server.core.validation.type_rules import ElementRule

if TYPE_CHECKING:
    from fhir_server.core.validation.profile_compile import Surroundings

_SIMPLE_QUANTITY = RESOURCE_BASE + "SimpleQuantity"
DEEPEST = 20


def all_of(checks: Sequence[Check]) -> Check:
    """One check that makes them all."""
    return checks[0] if len(checks) == 1 else All(tuple(checks))


@dataclass(frozen=True, slots=True)
class All:
    """Several checks of one value."""

    checks: tuple[Check, ...]

    def __call__(self, value: Any, sibling: Any, where: Where, run: Run) -> None:
        for check in self.checks:
            check(value, sibling, where, run)


@dataclass(frozen=True, slots=True)
class Same:
    """A fixed value, or all that a pattern says."""

    expected: Any
    is_whole: bool
    profile: str
    spot: str

    def __call__(self, value: Any, sibling: Any, where: Where, run: Run) -> None:
        same = equals if self.is_whole else contains
        if not same(value, self.expected):
            told = "be the fixed value" if self.is_whole else "have all that the pattern says"
            rule = f"{self.spot} {'fixed' if self.is_whole else 'pattern'}"
            run.add("value", f"must {told}", where, self.profile, rule)


@dataclass(frozen=True, slots=True)
class Conforming:
    """A value must conform to one of these profiles."""

    urls: tuple[str, ...]
    around: "Surroundings"
    profile: str
    spot: str

    def __call__(self, value: Any, sibling: Any, where: Where, run: Run) -> None:
        if value is None or run.depth >= DEEPEST:
            return
        if len(self.urls) == 1:
            self.around.run_profile(self.urls[0], value, where, run)
        elif not _any(self.around, self.urls, value, run):
            text = "conforms to none of the profiles that it may"
            run.add("value", text, where, self.profile, f"{self.spot} profile")


@dataclass(frozen=True, slots=True)
class Targeted:
    """A Reference must point to one of these types, and what is contained to its profiles."""

    targets: Mapping[str, Sequence[str]]
    around: "Surroundings"
    profile: str
    spot: str

    def __call__(self, value: Any, sibling: Any, where: Where, run: Run) -> None:
        if not isinstance(value, dict):
            return
        name, target = _target(value, run)
        place, rule = (where, ".reference"), f"{self.spot} targetProfile"
        if name is not None and name not in self.targets:
            text = f"must point to {' or '.join(sorted(self.targets))}"
            run.add("value", text, place, self.profile, rule)
            return
        urls = self.targets.get(str(name), ()) if target is not None else ()
        if urls and run.depth < DEEPEST and not _any(self.around, urls, target, run):
            told = "points to what conforms to no profile that it may"
            run.add("value", told, place, self.profile, rule)


class ValueChecks:
    """Makes the checks of single values of one profile."""

    def __init__(self, profile: Profile, around: "Surroundings") -> None:
        self._profile = profile
        self._around = around

    def of(
        self, node: Node, type_name: str, element: ElementRule | None, spot: str
    ) -> Iterator[Check]:
        if node.fixed is not ABSENT:
            yield Same(node.fixed, True, self._profile.url, spot)
        if node.pattern is not ABSENT:
            yield Same(node.pattern, False, self._profile.url, spot)
        if node.least is not None or node.greatest is not None or node.max_length is not None:
            yield self._limited(node, spot)
        binding = node.binding
        if binding is not None and not (
            element is not None
            and binding.strength == "required"
            and binding.value_set.partition("|")[0] == element.value_set
        ):
            bound = compile_binding(binding, self._profile.url, type_name, self._around.find_codes)
            if bound is not None:
                yield bound
        for rule in node.rules.values():
            yield compile_rule(
                rule, self._profile.url, self._around.types, type_name, self._profile.type_name
            )
        own = [t for t in node.types or () if t.code == type_name]
        if type_name == "Reference":
            yield from self._reference(own, element, spot)
        profiles = tuple(p for t in own for p in t.profiles if p != _SIMPLE_QUANTITY)
        if profiles:
            yield Conforming(profiles, self._around, self._profile.url, spot)

    def _limited(self, node: Node, spot: str) -> Check:
        profile = self._profile.url

        def check(value: Any, sibling: Any, where: Where, run: Run) -> None:
            if node.least is not None and is_below(value, node.least):
                run.add("value", "is below the least value", where, profile, f"{spot} minValue")
            if node.greatest is not None and is_above(value, node.greatest):
                run.add("value", "is over the greatest value", where, profile, f"{spot} maxValue")
            longest = node.max_length
            if longest is not None and isinstance(value, str) and len(value) > longest:
                run.add("too-long", "is too long", where, profile, f"{spot} maxLength")

        return check

    def _reference(
        self, own: Sequence[TypeRef], element: ElementRule | None, spot: str
    ) -> Iterator[Check]:
        urls = tuple(url for t in own for url in t.targets)
        modes = {mode for t in own for mode in t.aggregation}
        if modes and modes <= {"contained", "referenced"} and len(modes) == 1:
            yield self._aggregated(modes.pop() == "contained", spot)
        if not urls or RESOURCE_BASE + "Resource" in urls:
            return
        targets: dict[str, list[str]] = {}
        for url in urls:
            profile = self._around.find(url)
            name = profile.type_name if profile else url.removeprefix(RESOURCE_BASE)
            if profile is None and name not in self._around.rules.resource_types:
                return  # A profile that is not known here might be of any type.
            targets.setdefault(name, []).extend([url] if profile else [])
        is_plain = not any(targets.values())
        if element is not None and is_plain and targets.keys() == set(element.targets):
            return
        yield Targeted(targets, self._around, self._profile.url, spot)

    def _aggregated(self, is_contained: bool, spot: str) -> Check:
        profile = self._profile.url
        told = "must point to a contained resource" if is_contained else "must not be contained"

        def check(value: Any, sibling: Any, where: Where, run: Run) -> None:
            text = value.get("reference") if isinstance(value, dict) else None
            if isinstance(text, str) and text.startswith("#") != is_contained:
                run.add("value", told, (where, ".reference"), profile, f"{spot} aggregation")

        return check


def _any(around: "Surroundings", urls: Sequence[str], value: Any, run: Run) -> bool:
    return any(around.conforms(url, value, run) for url in urls)


def _target(reference: dict[str, Any], run: Run) -> tuple[str | None, Any]:
    """The type that a reference says, and the resource itself if it is contained."""
    text, said = reference.get("reference"), reference.get("type")
    pointing = reference_text.read(text) if isinstance(text, str) else None
    if pointing is not None and pointing.contained_id is not None:
        contained = run.container.get("contained")
        for item in contained if isinstance(contained, list) else ():
            if isinstance(item, dict) and item.get("id") == pointing.contained_id:
                name = item.get("resourceType")
                return (name, item) if isinstance(name, str) else (None, None)
    name = pointing.resource_type if pointing is not None else None
    return name or (said if isinstance(said, str) else None), None
