"""Profiles on the way in: those that are shipped, and those that are stored, as of now.

A StructureDefinition that any process has stored counts for the next write of every process;
so the store is asked each time a resource claims a profile that is not shipped.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.value_set import Codes
from fhir_server.core.validation.profile import ProfileFault
from fhir_server.core.validation.profiled import (
    Unknown,
    check_claims,
    check_thoroughly,
    claimed,
)
from fhir_server.core.validation.profiles import Profiles
from fhir_server.errors import Issue
from fhir_server.store.protocol import Outbox

_PROFILE = "StructureDefinition"
_FOLLOWED = (_PROFILE, "ValueSet", "CodeSystem")


class _Validator(Protocol):
    @property
    def resource_types(self) -> frozenset[str]: ...

    def check(self, resource: Resource) -> tuple[Issue, ...]: ...


MakeCodes = Callable[[Sequence[Resource]], Callable[[str], Codes | None]]
"""The codes of value sets, those of these stored definitions with them."""


class LiveProfiles:
    """The profiles of a server whose store has some. Safe from any thread."""

    def __init__(self, shipped: Profiles, outbox: Outbox, codes: MakeCodes) -> None:
        self._shipped = shipped
        self._outbox = outbox
        self._codes = codes
        self._lock = Lock()
        self._seen = 0
        self._stored: dict[ResourceKey, Resource] = {}
        self._current = shipped

    def for_claims(self, urls: Sequence[str]) -> Profiles:
        """Profiles that know all that is known of these. Raises `StoreUnavailable`."""
        return self._shipped if all(map(self._shipped.knows, urls)) else self.current()

    def current(self) -> Profiles:
        """All of them. Raises `StoreUnavailable`."""
        with self._lock:
            newest, versions = self._outbox.changes(self._seen, _FOLLOWED)
            for version in versions:
                if version.is_deletion:
                    self._stored.pop(version.key, None)
                else:
                    self._stored[version.key] = version.resource()
            if versions:
                stored = tuple(self._stored.values())
                profiles = (r for r in stored if r.get("resourceType") == _PROFILE)
                codes = tuple(r for r in stored if r.get("resourceType") != _PROFILE)
                self._current = self._shipped.having(profiles, self._codes(codes))
            self._seen = max(self._seen, newest)
            return self._current

    def is_shipped(self, url: object) -> bool:
        return isinstance(url, str) and self._shipped.knows(url)

    @property
    def shipped(self) -> Profiles:
        """Those that stay the same as long as the process runs."""
        return self._shipped


class ProfileChecks:
    """A validator that adds the profiles that resources claim to another's rules."""

    def __init__(self, validator: _Validator, live: LiveProfiles, unknown: Unknown) -> None:
        self._validator = validator
        self._live = live
        self._unknown: Unknown = unknown

    @property
    def resource_types(self) -> frozenset[str]:
        return self._validator.resource_types

    def check(self, resource: Resource) -> tuple[Issue, ...]:
        """All faults, those of claimed profiles with them."""
        issues = self._validator.check(resource)
        claims = check_claims(self._live.for_claims, resource, self._unknown, is_sound=not issues)
        own = self._check_profile(resource) if resource.get("resourceType") == _PROFILE else ()
        return (*issues, *claims, *own) if claims or own else issues

    @property
    def supported_profiles(self) -> tuple[tuple[str, str], ...]:
        """The shipped profiles of resource types: type and canonical URL."""
        return self._live.shipped.of_resources

    def speaks_for_its_shape(self, resource: Resource) -> bool:
        """Whether what is told of a resource holds for others that only measured otherwise.

        Not if a profile that it claims limits numbers, nor if one is stored or unknown: what
        that one demands may be another thing with the next commit.
        """
        shipped = self._live.shipped
        return all(
            shipped.knows(url) and not shipped.limits_numbers(url) for url in claimed(resource)
        )

    def check_thoroughly(self, resource: Resource, profiles: Sequence[str]) -> tuple[Issue, ...]:
        """All that can be said, for `$validate`; a profile asked for and not known is an error."""
        issues = [*self.check(resource)]
        if resource.get("resourceType") in self.resource_types:
            current = self._live.current()
            issues += check_thoroughly(current, resource, claimed(resource), "ignore")
            issues += check_thoroughly(current, resource, profiles, "refuse")
        return tuple(dict.fromkeys(issues))

    def _check_profile(self, resource: Resource) -> tuple[Issue, ...]:
        if resource.get("derivation") != "constraint":
            return ()
        profiles = self._live.current()
        if self._live.is_shipped(resource.get("url")):
            text = "a shipped profile has this url, and that one counts"
            return (Issue("business-rule", text, f"{_PROFILE}.url", "warning"),)
        try:
            profiles.read(resource)
        except ProfileFault as fault:
            is_told_later = "snapshot" not in resource and not profiles.is_base_known(resource)
            severity = "warning" if is_told_later else "error"
            return (Issue("not-supported", str(fault), _PROFILE, severity),)  # type: ignore[arg-type]
        return ()
