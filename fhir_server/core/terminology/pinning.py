"""Versions of code systems that a caller wants a value set to be read with.

https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from collections.abc import Mapping
from typing import Any

from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, Issue


def pin(
    value_set: Resource,
    first: Mapping[str, str],
    always: Mapping[str, str],
    checked: Mapping[str, str],
) -> Resource:
    """`value_set` with versions by system: `first` where it says none, `always` everywhere.

    Raises:
        InvalidRequest: it says another version than one of `checked`.
    """
    compose = value_set.get("compose")
    if compose is None:
        return value_set

    def pinned(part: Any) -> Any:
        system, said = part.get("system"), part.get("version")
        wanted = checked.get(system)
        if wanted is not None and said not in (None, wanted):
            text = "the value set is made of another version of a code system"
            raise InvalidRequest(issues=(Issue("business-rule", text, "check-system-version"),))
        version = always.get(system) or said or wanted or first.get(system)
        return {**part, "version": version} if version else part

    parts = {
        name: [pinned(each) for each in compose[name]]
        for name in ("include", "exclude")
        if name in compose
    }
    return {**value_set, "compose": {**compose, **parts}}
