"""Slicing: to which slice of a profile an item belongs.

https://hl7.org/fhir/R4/profiling.html#slicing
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation import profile_path, reference_text
from fhir_server.core.validation.profile import ABSENT, RESOURCE_BASE, Node, ProfileFault, Slicing
from fhir_server.core.validation.profile_binding import has_code
from fhir_server.core.validation.profile_path import FindProfile, Step
from fhir_server.core.validation.profile_run import Run
from fhir_server.core.validation.profile_value import contains, equals

Test = Callable[[Any], bool]
Belongs = Callable[[Any, str, Run], bool]
"""Whether an item, of that type, belongs to a slice."""
Conforms = Callable[[str, Any, Run], bool]

_EXTENSIONS = frozenset({"extension", "modifierExtension"})
_BY_URL = Slicing((("value", "url"),))
_BY_TYPE = Slicing((("type", "$this"),))


@dataclass(frozen=True, slots=True)
class IsValue:
    """A test for a fixed value, or for one that has all that a pattern says."""

    expected: Any
    is_whole: bool

    def __call__(self, value: Any) -> bool:
        same = equals if self.is_whole else contains
        return same(value, self.expected)


@dataclass(frozen=True, slots=True)
class ByValue:
    """Each of the tests is met by some value that the steps lead to."""

    steps: tuple[Step, ...]
    tests: tuple[Test, ...]

    def __call__(self, item: Any, type_name: str, run: Run) -> bool:
        values = profile_path.values(item, self.steps)
        return all(any(map(test, values)) for test in self.tests)


@dataclass(frozen=True, slots=True)
class ByUrl:
    """An extension with one of these URLs."""

    urls: frozenset[str]

    def __call__(self, item: Any, type_name: str, run: Run) -> bool:
        url = item.get("url") if isinstance(item, dict) else None
        return isinstance(url, str) and url in self.urls


@dataclass(frozen=True, slots=True)
class ByType:
    """A value, or a resource, of one of these types."""

    types: frozenset[str]

    def __call__(self, item: Any, type_name: str, run: Run) -> bool:
        return _type_of(item, type_name) in self.types


@dataclass(frozen=True, slots=True)
class ByAll:
    """All of several discriminators."""

    tests: tuple[Belongs, ...]

    def __call__(self, item: Any, type_name: str, run: Run) -> bool:
        return all(test(item, type_name, run) for test in self.tests)


def slicing_of(node: Node, name: str) -> Slicing | None:
    """How a node is sliced; extensions and choices need not say it."""
    if node.slicing is not None and node.slicing.discriminators:
        return node.slicing
    rules = node.slicing or Slicing(())
    if name in _EXTENSIONS:
        return rules._replace(discriminators=_BY_URL.discriminators)
    if node.slices and all(
        part.types is not None and len(part.types) == 1 for part in node.slices.values()
    ):
        return rules._replace(discriminators=_BY_TYPE.discriminators)
    return node.slicing


class Matchers:
    """Makes the functions that tell whether an item belongs to a slice."""

    def __init__(
        self, find: FindProfile, find_codes: Callable[[str], Codes | None], conforms: Conforms
    ) -> None:
        self._find = find
        self._find_codes = find_codes
        self._conforms = conforms

    def matcher(self, slicing: Slicing, part: Node) -> Belongs:
        """Raises `ProfileFault` where the slice does not say what would belong to it."""
        if not slicing.discriminators:
            raise ProfileFault("slicing: there is no discriminator")
        tests = [self._discriminated(kind, path, part) for kind, path in slicing.discriminators]
        return tests[0] if len(tests) == 1 else ByAll(tuple(tests))

    def _discriminated(self, kind: str, path: str, part: Node) -> Belongs:
        steps = profile_path.parse(path)
        if kind in ("value", "pattern"):
            return self._by_value(steps, part)
        if kind == "exists":
            return self._by_presence(steps, part)
        if kind == "type":
            return self._by_type(steps, part)
        if kind == "profile":
            return self._by_profile(steps, part)
        raise ProfileFault("slicing: a discriminator of a kind that R4 does not have")

    def _by_value(self, steps: Sequence[Step], part: Node) -> Belongs:
        if len(steps) == 1 and steps[0].name == "url":
            urls = [url for t in part.types or () for url in t.profiles]
            if urls and "url" not in part.children:
                return ByUrl(frozenset(url.partition("|")[0] for url in urls))
        reached = profile_path.nodes(part, steps, self._find)
        tests = self._tests(reached)
        if not tests:
            raise ProfileFault("slicing: a slice has no value that tells it from others")
        return ByValue(tuple(steps), tuple(tests))

    def _tests(self, reached: Iterable[Node]) -> list[Test]:
        return [test for node in reached if (test := self._implied(node)) is not None]

    def _implied(self, node: Node) -> Test | None:
        """What a value must be to be the node's; None if the node says nothing of it."""
        tests: list[Test] = []
        if node.fixed is not ABSENT:
            tests.append(IsValue(node.fixed, is_whole=True))
        if node.pattern is not ABSENT:
            tests.append(IsValue(node.pattern, is_whole=False))
        if not tests and node.binding is not None and node.binding.strength == "required":
            codes = self._find_codes(node.binding.value_set)
            if codes is not None:
                tests.append(lambda value: has_code(value, codes))
        for name, child in node.children.items():
            tests += self._implied_inside(name, child)
        return _all(tests)

    def _implied_inside(self, name: str, child: Node) -> list[Test]:
        steps = (Step(name),)
        parts = [child, *(s for s in child.slices.values() if (s.minimum or 0) > 0)]
        return [_somewhere(test, steps) for test in self._tests(parts)]

    def _by_presence(self, steps: Sequence[Step], part: Node) -> Belongs:
        reached = profile_path.nodes(part, steps, self._find)
        if any(node.maximum == 0 for node in reached):
            return lambda item, _t, _r: not profile_path.values(item, steps)
        if any((node.minimum or 0) > 0 for node in reached):
            return lambda item, _t, _r: bool(profile_path.values(item, steps))
        raise ProfileFault("slicing: a slice does not say whether the element exists")

    def _by_type(self, steps: Sequence[Step], part: Node) -> Belongs:
        if steps and steps[-1].is_resolve:
            before = profile_path.nodes(part, steps[:-1], self._find)
            wanted = {
                self._target_type(url) for n in before for t in n.types or () for url in t.targets
            }
            kept = tuple(steps[:-1])
            return lambda item, _t, _r: any(
                _points_to(value, wanted) for value in profile_path.values(item, kept)
            )
        codes = {t.code for n in profile_path.nodes(part, steps, self._find) for t in n.types or ()}
        if not codes:
            raise ProfileFault("slicing: a slice names no type")
        if not steps:
            return ByType(frozenset(codes))
        above, last = tuple(steps[:-1]), steps[-1].name
        names = {last, *(last + code[:1].upper() + code[1:] for code in codes)}
        return lambda item, _t, _r: any(
            name in names and (name != last or _type_of(value, "") in codes)
            for holder in profile_path.values(item, above)
            if isinstance(holder, dict)
            for name, value in holder.items()
        )

    def _target_type(self, url: str) -> str:
        profile = self._find(url)
        return url.removeprefix(RESOURCE_BASE) if profile is None else profile.type_name

    def _by_profile(self, steps: Sequence[Step], part: Node) -> Belongs:
        is_resolved = bool(steps) and steps[-1].is_resolve
        kept = tuple(steps[:-1]) if is_resolved else tuple(steps)
        reached = profile_path.nodes(part, kept, self._find)
        urls = [
            url
            for node in reached
            for t in node.types or ()
            for url in (t.targets if is_resolved else t.profiles)
        ]
        if not urls:
            raise ProfileFault("slicing: a slice names no profile")

        def belongs(item: Any, _type_name: str, run: Run) -> bool:
            values = profile_path.values(item, kept)
            if is_resolved:
                values = [found for value in values for found in _contained(value, run)]
            return any(self._conforms(url, value, run) for value in values for url in urls)

        return belongs


def _somewhere(test: Test, steps: Sequence[Step]) -> Test:
    return lambda value: any(map(test, profile_path.values(value, steps)))


def _all(tests: Sequence[Test]) -> Test | None:
    if len(tests) <= 1:
        return tests[0] if tests else None
    return lambda value: all(test(value) for test in tests)


def _type_of(item: Any, type_name: str) -> str:
    if isinstance(item, dict) and isinstance(item.get("resourceType"), str):
        return str(item["resourceType"])
    return type_name


def _points_to(reference: Any, wanted: Container[Any]) -> bool:
    if not isinstance(reference, Mapping):
        return False
    text = reference.get("reference")
    pointing = reference_text.read(text) if isinstance(text, str) else None
    found = pointing.resource_type if pointing else None
    said = reference.get("type")
    return (found or (said if isinstance(said, str) else None) or _type_in_url(text)) in wanted


def _type_in_url(text: Any) -> str | None:
    parts = text.split("/") if isinstance(text, str) else ()
    return parts[-2] if len(parts) > 2 else None


def _contained(reference: Any, run: Run) -> list[Any]:
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str) or not text.startswith("#"):
        return []
    contained = run.container.get("contained")
    return [
        item
        for item in (contained if isinstance(contained, list) else ())
        if isinstance(item, dict) and item.get("id") == text[1:]
    ]
