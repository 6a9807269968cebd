"""ProfiledResources: resources held against the profiles that they claim, or others.

https://hl7.org/fhir/R4/resource-definitions.html#Meta.profile
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from fhir_server.core.resource_json import Resource
from fhir_server.core.validation.explain import MAX_ISSUES
from fhir_server.core.validation.profile import RESOURCE_BASE
from fhir_server.core.validation.profile_run import Run, Where
from fhir_server.core.validation.profiles import Profiles
from fhir_server.errors import Issue, Severity

Unknown = Literal["warn", "refuse", "ignore"]
"""What becomes of a claim to a profile that is not here."""

_SEVERITIES: dict[Unknown, Severity] = {"warn": "warning", "refuse": "error"}
_HOLDERS = frozenset({"Bundle", "Parameters"})
_DEEPEST = 8


def check_claims(
    profiles: Callable[[Sequence[str]], Profiles], resource: Resource, unknown: Unknown
) -> tuple[Issue, ...]:
    """What of `resource`, and of the resources in it, breaks a profile that it claims.

    `profiles` gives those that can be asked for the URLs.
    """
    found: list[Issue] = []
    for item, where, container in _inside(resource, (None, _name(resource)), resource, 0):
        claims = claimed(item)
        if claims and len(found) < MAX_ISSUES:
            found += _check(profiles(claims), item, where, container, claims, unknown)
    return tuple(found[:MAX_ISSUES])


def check_thoroughly(
    profiles: Profiles, resource: Resource, urls: Iterable[str], unknown: Unknown
) -> tuple[Issue, ...]:
    """What breaks these profiles or R4's rules for the type, and what must be supported."""
    wanted = dict.fromkeys((RESOURCE_BASE + _name(resource), *urls))
    place: Where = (None, _name(resource))
    return tuple(
        _check(profiles, resource, place, resource, tuple(wanted), unknown, is_thorough=True)
    )


def claimed(resource: Resource) -> tuple[str, ...]:
    """The canonical URLs in `meta.profile`."""
    meta = resource.get("meta")
    urls = meta.get("profile") if isinstance(meta, dict) else None
    if not isinstance(urls, list):
        return ()
    return tuple(url for url in urls if isinstance(url, str) and url)


def _check(
    profiles: Profiles,
    resource: Resource,
    where: Where,
    container: Resource,
    urls: Sequence[str],
    unknown: Unknown,
    *,
    is_thorough: bool = False,
) -> Iterator[Issue]:
    run = Run(resource, container)
    for url in urls:
        if profiles.knows(url):
            profiles.check(url, resource, where, run, is_thorough=is_thorough)
        elif unknown in _SEVERITIES:
            told = profiles.fault(url) or "the profile is not known here, so it is not checked"
            place = ((where, ".meta"), ".profile")
            run.add("not-found", told, place, url, "profile", _SEVERITIES[unknown])
    yield from run.issues()


def _name(resource: Resource) -> str:
    name = resource.get("resourceType")
    return name if isinstance(name, str) else "Resource"


def _inside(
    resource: Any, where: Where, container: Resource, depth: int
) -> Iterator[tuple[Resource, Where, Resource]]:
    """`resource` and what it holds, each with its place and the resource that contains it."""
    if not isinstance(resource, dict) or depth > _DEEPEST:
        return
    yield resource, where, container
    contained = resource.get("contained")
    if isinstance(contained, list):
        for n, item in enumerate(contained):
            if isinstance(item, dict):
                yield item, ((where, ".contained"), n), resource
    name = resource.get("resourceType")
    # Whatever was sent: a list has no hash that could be looked for.
    if not isinstance(name, str) or name not in _HOLDERS:
        return
    part = "entry" if name == "Bundle" else "parameter"
    listed = resource.get(part)
    for n, item in enumerate(listed if isinstance(listed, list) else ()):
        inner = item.get("resource") if isinstance(item, dict) else None
        if isinstance(inner, dict):
            yield from _inside(inner, (((where, f".{part}"), n), ".resource"), inner, depth + 1)
