"""Profiles: all that are known, each compiled when it is first asked for.

A value: what is stored later makes another one (`having`), which keeps what is compiled for
what did not change.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation import profile_tree
from fhir_server.core.validation.profile import RESOURCE_BASE, Node, Profile, ProfileFault, Rule
from fhir_server.core.validation.profile_accept import Accept, compile_accept
from fhir_server.core.validation.profile_checks import DEEPEST
from fhir_server.core.validation.profile_compile import Surroundings, compile_profile
from fhir_server.core.validation.profile_numbers import limits_numbers
from fhir_server.core.validation.profile_run import Check, Run, Where
from fhir_server.core.validation.type_rules import TypeRules

Invariants = Mapping[str, Iterable[Iterable[str]]]
"""R4's own invariants by element: key, severity, text, expression."""

_SEEN_TO = frozenset({"ele-1", "ext-1", "ref-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6"})
_LONGEST_CHAIN = 20


class Profiles:
    """StructureDefinitions by canonical URL. Safe from any thread.

    `checked` are the keys of those of R4's invariants that are checked without profiles.
    """

    def __init__(
        self,
        rules: TypeRules,
        types: ElementTypes,
        invariants: Invariants,
        checked: frozenset[str],
        find_codes: Callable[[str], Codes | None],
        resources: Iterable[Resource] = (),
    ) -> None:
        self._rules = rules
        self._types = types
        self._invariants = invariants
        self._checked = checked | _SEEN_TO
        self._find_codes = find_codes
        self._known = {
            path: frozenset(r[0] for r in map(tuple, own)) for path, own in invariants.items()
        }
        self._known[""] = _SEEN_TO
        self._resources: dict[str, Resource] = {}
        for resource in resources:
            self._keep(resource)
        self._read: dict[str, Profile | None] = {}
        self._faults: dict[str, str] = {}
        self._compiled: dict[tuple[str, bool], Check] = {}
        self._accepting: dict[str, Accept] = {}
        self._limiting: dict[str, bool] = {}

    @property
    def urls(self) -> Iterable[str]:
        return self._resources.keys()

    @property
    def rules(self) -> TypeRules:
        """What R4 demands of the types."""
        return self._rules

    @property
    def of_resources(self) -> tuple[tuple[str, str], ...]:
        """The profiles of resource types, in order: type and canonical URL."""
        types = self._rules.resource_types
        found = {(r["type"], r["url"]) for r in self._resources.values() if r.get("type") in types}
        return tuple(sorted(found))

    def having(
        self,
        resources: Iterable[Resource],
        find_codes: Callable[[str], Codes | None] | None = None,
    ) -> "Profiles":
        """These and others; what is here already is not replaced."""
        own = self._resources.values()
        return Profiles(
            self._rules,
            self._types,
            self._invariants,
            self._checked,
            find_codes or self._find_codes,
            (*(r for r in resources if r.get("url") not in self._resources), *own),
        )

    def knows(self, url: str) -> bool:
        """Whether it is a profile here, or a type of R4."""
        return self.find(url) is not None or self._basic_type(url) is not None

    def fault(self, url: str) -> str | None:
        """Why a profile that is here cannot be used."""
        self.find(url)
        return self._faults.get(url)

    def find(self, url: str) -> Profile | None:
        """The profile of that canonical URL, in any version if it says none."""
        return self._find(url, 0)

    def limits_numbers(self, url: str) -> bool:
        """Whether the profile may refuse one measured number where it takes another."""
        if url not in self._limiting:
            profile = self.find(url)
            is_limiting = profile is not None and limits_numbers(profile.root, self.find)
            self._limiting[url] = is_limiting
        return self._limiting[url]

    def read(self, resource: Resource) -> Profile:
        """Raises `ProfileFault` if the StructureDefinition cannot be used here."""
        return profile_tree.read(
            resource, self._rules, self._known, lambda url: self._base(url, resource, 1)
        )

    def is_base_known(self, resource: Resource) -> bool:
        """Whether what it is derived from is here, so that its differential can be judged."""
        base = resource.get("baseDefinition")
        return isinstance(base, str) and self.knows(base)

    def run_profile(self, url: str, value: Any, where: Where, run: Run) -> None:
        """Find what of `value` breaks a profile that it is held against by another one."""
        self.check(url, value, where, run, is_thorough=False)

    def check(self, url: str, value: Any, where: Where, run: Run, *, is_thorough: bool) -> None:
        """Add to `run` what of `value` breaks the profile; one that is not known says so."""
        check = self._compiled.get((url, is_thorough)) or self._compile(url, is_thorough)
        if check is None:
            basic = self._basic_type(url)
            if basic is None:
                told = self.fault(url) or "the profile is not known here, so it is not checked"
                run.add("not-found", told, where, url, "profile", "warning")
            elif isinstance(value, dict) and value.get("resourceType", basic) != basic:
                run.add("structure", f"must be {basic}", where, url, "type")
            return
        profile = self.find(url)
        if profile is not None and isinstance(value, dict):
            name = value.get("resourceType", profile.type_name)
            if name != profile.type_name:
                run.add("structure", f"must be {profile.type_name}", where, url, "type")
                return
        run.depth += 1
        check(value, None, where, run)
        run.depth -= 1

    def accepts(self, url: str, value: Any, run: Run) -> bool:
        """Whether `check` would surely find nothing at all in `value`, which keeps R4's rules.

        False may mean no more than that it has to be asked; `run` is of no use then.
        """
        accept = self._accepting.get(url) or self._compile_accept(url)
        if run.depth >= DEEPEST:
            return False
        run.depth += 1
        try:
            return accept(value, run)
        except (AttributeError, TypeError):
            # A profile may ask for what no value of the type can be.
            return False
        finally:
            run.depth -= 1

    def conforms(self, url: str, value: Any, run: Run) -> bool:
        """Whether `value` breaks nothing of the profile; True for one that is not known."""
        apart = run.apart()
        self.check(url, value, (None, ""), apart, is_thorough=False)
        return not apart.has_errors()

    def _keep(self, resource: Resource) -> None:
        url, version = resource.get("url"), resource.get("version")
        if isinstance(url, str) and resource.get("derivation") == "constraint":
            self._resources[url] = resource
            if isinstance(version, str):
                self._resources[f"{url}|{version}"] = resource

    def _find(self, url: str, depth: int) -> Profile | None:
        if url in self._read:
            return self._read[url]
        resource = self._resources.get(url)
        if resource is None:
            return None
        if depth > _LONGEST_CHAIN:
            raise ProfileFault("baseDefinition: the profile is derived from itself")
        found = None
        try:
            found = profile_tree.read(
                resource,
                self._rules,
                self._known,
                lambda base: self._base(base, resource, depth + 1),
            )
        except ProfileFault as error:
            self._faults[url] = f"the profile cannot be used: {error}"
        return self._read.setdefault(url, found)

    def _base(self, url: str, resource: Resource, depth: int) -> Profile | None:
        if self._basic_type(url) is not None:
            return None
        found = self._find(url, depth)
        if found is None:
            raise ProfileFault(f"baseDefinition: {url[:200]} is not here or cannot be used")
        return found

    def _basic_type(self, url: str) -> str | None:
        name = url.partition("|")[0].removeprefix(RESOURCE_BASE)
        if "/" in name or "-" in name:
            return None
        try:
            self._rules[name]
        except KeyError:
            return None
        return name

    def _compile(self, url: str, is_thorough: bool) -> Check | None:
        profile = self.find(url)
        if profile is None:
            basic = self._basic_type(url)
            if basic is None or not is_thorough:
                return None
            # Kept once, whatever version was asked for.
            url = RESOURCE_BASE + basic
            if (url, is_thorough) in self._compiled:
                return self._compiled[url, is_thorough]
            profile = self._basic_profile(basic)
        around = Surroundings(
            self._rules, self._types, self.find, self._find_codes, self.conforms, self.run_profile
        )
        try:
            check = compile_profile(profile, around, is_thorough=is_thorough)
        except (AttributeError, TypeError, KeyError, ValueError):
            # Stored where validation only warns: its elements are no ElementDefinitions.
            self._faults[url] = "the profile cannot be used: an element is not what it should be"
            self._read[url] = None
            return None
        return self._compiled.setdefault((url, is_thorough), check)

    def _compile_accept(self, url: str) -> Accept:
        check = self._compiled.get((url, False)) or self._compile(url, is_thorough=False)
        profile = self.find(url)
        if profile is None or check is None:
            # Not kept: anybody may claim any number of what is not here.
            basic = self._basic_type(url) if profile is None else None
            return lambda value, run: basic is not None and _is_a(value, basic)
        accept = compile_accept(check, profile.type_name, self._rules, self._types, self.accepts)
        return self._accepting.setdefault(url, accept or (lambda value, run: False))

    def _basic_profile(self, type_name: str) -> Profile:
        """A type of R4 as a profile: those of its invariants that nothing else checks."""
        root = Node()
        for path, own in self._invariants.items():
            first, *steps = path.split(".")
            if first != type_name:
                continue
            node = root
            for step in steps:
                node = node.children.setdefault(step.removesuffix("[x]"), Node())
            for key, severity, human, expression in own:
                if key not in self._checked:
                    node.rules[key] = Rule(key, severity, human, expression)
        return Profile(RESOURCE_BASE + type_name, "", type_name, root)


def _is_a(value: Any, type_name: str) -> bool:
    return not isinstance(value, dict) or bool(value.get("resourceType", type_name) == type_name)
