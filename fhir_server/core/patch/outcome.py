"""What every patch must leave behind: the same resource, nothing empty, nothing bottomless."""

from typing import Any

from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidResource, Issue, TooCostly

MAX_DEPTH = 200


def settle(before: Resource, after: Any) -> Resource:
    """`after` as it can be stored: without the lists and objects that were emptied.

    Raises:
        InvalidResource: it is no longer a resource of the same type and id as `before`.
        TooCostly: it is nested too deeply.
    """
    name = before["resourceType"]
    if not isinstance(after, dict) or after.get("resourceType") != name:
        raise unprocessable("a patch cannot make another type of a resource", name)
    if after.get("id") != before.get("id"):
        raise unprocessable("a patch cannot change the id of a resource", f"{name}.id")
    settled: Resource = _prune(after, 0)
    return settled


def unprocessable(diagnostics: str, expression: str | None = None) -> InvalidResource:
    """The fault of a patch that is understood, but does not go with this resource."""
    return InvalidResource(issues=(Issue("processing", diagnostics, expression),))


def _prune(value: Any, depth: int, name: str = "") -> Any:
    if depth > MAX_DEPTH:
        raise TooCostly("the patched resource is nested too deeply")
    if isinstance(value, dict):
        pruned = ((name, _prune(item, depth + 1, name)) for name, item in value.items())
        return {name: item for name, item in pruned if not _is_empty(item)}
    if isinstance(value, list):
        items = [_prune(item, depth + 1) for item in value]
        if name.startswith("_"):
            # It stands beside a list of values: what is emptied keeps its place.
            items = [None if _is_empty(item) else item for item in items]
            return items if any(items) else []
        return [item for item in items if not _is_empty(item)]
    return value


def _is_empty(value: Any) -> bool:
    return isinstance(value, list | dict) and not value
