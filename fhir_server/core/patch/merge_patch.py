"""Merge patch: what is sent replaces, null removes, lists are taken whole.

https://www.rfc-editor.org/rfc/rfc7396
"""

from typing import Any

from fhir_server.core.patch.outcome import MAX_DEPTH, settle
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, TooCostly


def apply(resource: Resource, patch: Any) -> Resource:
    """`resource` with `patch` merged in; neither of them is changed.

    Raises:
        InvalidRequest: `patch` is no JSON object.
        InvalidResource: the type or id would change.
        TooCostly: it is nested too deeply.
    """
    check(patch)
    return settle(resource, _merge(resource, patch, 0))


def check(patch: Any) -> None:
    """Whether `patch` is a merge patch for a resource; raises `InvalidRequest`."""
    if not isinstance(patch, dict):
        raise InvalidRequest("a merge patch is a JSON object")


def _merge(target: Any, patch: Any, depth: int) -> Any:
    if not isinstance(patch, dict):
        return patch
    if depth > MAX_DEPTH:
        raise TooCostly("the patch is nested too deeply")
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value, depth + 1)
    return merged
