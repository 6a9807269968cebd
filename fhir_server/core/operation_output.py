"""The outputs of an operation: a Parameters resource, built of what there is to say.

https://hl7.org/fhir/R4/operations.html#response
"""

from collections.abc import Sequence
from typing import Any

from fhir_server.core.resource_json import Resource

Parameter = dict[str, Any]


def parameters(*found: Parameter | None) -> Resource:
    """A Parameters of those that are there."""
    return {"resourceType": "Parameters", "parameter": [each for each in found if each]}


def value(name: str, type_: str, given: Any) -> Parameter | None:
    """``value("result", "Boolean", True)``; None for a value that is not there."""
    return None if given is None else {"name": name, f"value{type_}": given}


def parts(name: str, found: Sequence[Parameter | None]) -> Parameter:
    """A parameter made of others."""
    return {"name": name, "part": [each for each in found if each]}
