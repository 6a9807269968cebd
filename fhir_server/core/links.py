"""Links within a resource: literal references, attachment URLs, narrative; found and replaced.

A link is known by the name of its element: R4 calls each literal reference `reference`,
and types as uri or url what is named so. `Identifier.value` may hold a `urn:uuid` too, and
is none. https://hl7.org/fhir/R4/references.html
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_server.core.identity import ResourceKey, is_resource_id
from fhir_server.core.resource_json import Resource

_LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(/_history/[A-Za-z0-9\-.]{1,64})?\Z")
_CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?(.+)\Z", re.DOTALL)
_NARRATIVE_LINK = re.compile(r"""((?:href|src)\s*=\s*["'])([^"'<>]+)(["'])""")
_URN = re.compile(r"urn:(?:uuid|oid):")

Replace = Callable[[str, str], str]


class Conditional(NamedTuple):
    """`Patient?identifier=…`: a reference to whichever resource matches."""

    text: str
    resource_type: str
    query: str
    expression: str


def parse_local(reference: str) -> ResourceKey | None:
    """The resource that a relative reference names, if it is one."""
    found = _LOCAL.match(reference)
    return ResourceKey(found[1], found[2]) if found else None


def localize(resource: Resource, base_url: str) -> Resource:
    """`resource` with the absolute references to our own base made relative."""
    prefix = base_url + "/"

    def replace(name: str, text: str) -> str:
        if name == "reference" and text.startswith(prefix) and _LOCAL.match(text, len(prefix)):
            return text[len(prefix) :]
        return text

    return rewrite(resource, replace)


def follow(resource: Resource, targets: Mapping[str, str], full_url: str | None) -> Resource:
    """`resource` with the links to entries of its Bundle pointing to what they became.

    `targets` maps each entry's `fullUrl` to its new reference. A relative reference
    is resolved against `full_url`, the entry's own, where that is a URL of a server.
    """
    base = _base_of(full_url)

    def replace(name: str, text: str) -> str:
        if name == "reference":
            target = targets.get(text)
            if target is None and base and _LOCAL.match(text):
                target = targets.get(base + text)
            return text if target is None else target
        if name == "div":
            return _replace_in_narrative(text, targets)
        if _is_link_name(name) and _URN.match(text):
            return targets.get(text, text)
        return text

    linked = rewrite(resource, replace)
    # A resource's own `url` is its canonical name, no link.
    return {**linked, "url": resource["url"]} if "url" in resource else linked


def conditional_references(resource: Resource, path: str) -> Iterator[Conditional]:
    """Every conditional reference of `resource`, with its FHIRPath below `path`."""
    for name, text, expression in _texts(resource, path):
        if name == "reference" and (found := _CONDITIONAL.match(text)):
            yield Conditional(text, found[1], found[2], expression)


def urn_references(resource: Resource, path: str) -> Iterator[tuple[str, str]]:
    """Every reference to a `urn:uuid` of `resource`, with its FHIRPath below `path`.

    Those of a stored Bundle are about its own entries, and none of ours.
    """
    if resource.get("resourceType") == "Bundle":
        return
    for name, text, expression in _texts(resource, path):
        if name == "reference" and text.startswith("urn:uuid:"):
            yield text, expression


def replace_references(resource: Resource, targets: Mapping[str, str]) -> Resource:
    """`resource` with each `reference` that `targets` knows replaced."""
    return rewrite(
        resource, lambda name, text: targets.get(text, text) if name == "reference" else text
    )


def move(resource: Resource, targets: Mapping[str, str]) -> Resource:
    """`resource` with every link to a key of `targets`, whatever its element, replaced.

    For keys that nobody but the server can have written, such as ids it has just made.
    """

    def replace(name: str, text: str) -> str:
        if name == "div":
            return _replace_in_narrative(text, targets)
        return targets.get(text, text)

    return rewrite(resource, replace)


def rewrite(resource: Resource, replace: Replace) -> Resource:
    """`resource` with each text replaced; the same object where nothing was.

    `replace` is given the name of the element and the text.
    """
    rewritten: Resource = _rewrite("", resource, replace)
    return rewritten


def _replace_in_narrative(text: str, targets: Mapping[str, str]) -> str:
    return _NARRATIVE_LINK.sub(lambda link: link[1] + targets.get(link[2], link[2]) + link[3], text)


def _is_link_name(name: str) -> bool:
    return name in ("url", "uri") or name.endswith(("Uri", "Url"))


def _base_of(full_url: str | None) -> str | None:
    if full_url is None or not full_url.startswith(("http://", "https://")):
        return None
    base, _, resource_id = full_url.rpartition("/")
    return base.rpartition("/")[0] + "/" if is_resource_id(resource_id) else None


def _rewrite(name: str, value: Any, replace: Replace) -> Any:
    if isinstance(value, str):
        return replace(name, value)
    if isinstance(value, dict):
        changed = {
            key: new
            for key, old in value.items()
            if (new := _rewrite(key, old, replace)) is not old
        }
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        items = [_rewrite(name, item, replace) for item in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        return value if is_same else items
    return value


def _texts(value: Any, path: str, name: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(value, str):
        yield name, value, path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}", key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]", name)
