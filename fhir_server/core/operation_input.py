"""The inputs of an operation: from a query string, or from a Parameters resource.

https://hl7.org/fhir/R4/operations.html#request
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, Issue

_VALUE = "value"


class Input(NamedTuple):
    """One input: a text from a URL, or what a `value[x]` or `resource` of Parameters holds."""

    name: str
    value: Any
    path: str


class Inputs:
    """All inputs of one call, in their order."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self._inputs = tuple(inputs)

    def and_also(self, other: "Inputs") -> "Inputs":
        """These and those of `other`."""
        return Inputs((*self._inputs, *other._inputs))

    def check_known(self, *names: str) -> None:
        """Raises `InvalidRequest` for an input that is not of `names`."""
        for given in self._inputs:
            if given.name not in names:
                known = ", ".join(sorted(names)) or "none"
                raise fault(f"no such parameter; known: {known}", given.path, code="not-supported")

    def values(self, name: str) -> tuple[Any, ...]:
        return tuple(given.value for given in self._inputs if given.name == name)

    def texts(self, *names: str) -> tuple[str, ...]:
        """The simple values of these names as text.

        Raises:
            InvalidRequest: one is not simple.
        """
        return tuple(_text(given) for given in self._inputs if given.name in names)

    def text(self, name: str) -> str | None:
        """The one simple value of that name, if it was given.

        Raises:
            InvalidRequest: there are several.
        """
        found = self.texts(name)
        if len(found) > 1:
            raise fault("is given more than once", name)
        return found[0] if found else None

    def objects(self, name: str) -> tuple[dict[str, Any], ...]:
        """The values of that name that have elements.

        Raises:
            InvalidRequest: one has none.
        """
        found: list[dict[str, Any]] = []
        for given in self._inputs:
            if given.name == name:
                if not isinstance(given.value, dict):
                    raise fault("is not a simple value: send it in a Parameters", given.path)
                found.append(given.value)
        return tuple(found)

    def resource(self) -> Resource:
        """All of them as a Parameters."""
        return {"resourceType": "Parameters", "parameter": [_parameter(i) for i in self._inputs]}

    def params(self) -> Params:
        """All of them as if they had come in a query string.

        Raises:
            InvalidRequest: one is not simple.
        """
        return tuple((given.name, _text(given)) for given in self._inputs)


def _parameter(given: Input) -> dict[str, Any]:
    name = given.path.rpartition(".")[2]
    is_value = name == "resource" or name.startswith(_VALUE)
    return {"name": given.name, name if is_value else "valueString": given.value}


def of_params(params: Params) -> Inputs:
    """The inputs that stood in a URL."""
    return Inputs(Input(name, value, name) for name, value in params)


def of_resource(resource: Resource) -> Inputs:
    """The inputs that a Parameters resource brings.

    Raises:
        InvalidRequest: it is none, or a parameter has not exactly one value.
    """
    if resource.get("resourceType") != "Parameters":
        raise fault("an operation takes a Parameters", "Parameters")
    parameters = resource.get("parameter", [])
    if not isinstance(parameters, list):
        raise fault("must be a list", "Parameters.parameter", code="structure")
    return Inputs(_read(n, parameter) for n, parameter in enumerate(parameters))


def of_input_resource(resource: Resource) -> Inputs:
    """The one input `resource`, for an operation that takes it as its body."""
    return Inputs((Input("resource", resource, resource["resourceType"]),))


def fault(diagnostics: str, path: str, *, code: str = "invalid") -> InvalidRequest:
    """The refusal of one input."""
    return InvalidRequest(issues=(Issue(code, diagnostics, path),))


def _read(number: int, parameter: object) -> Input:
    path = f"Parameters.parameter[{number}]"
    if not isinstance(parameter, dict) or not isinstance(parameter.get("name"), str):
        raise fault("must be an object with a name", path, code="structure")
    found = [name for name in parameter if name == "resource" or name.startswith(_VALUE)]
    if len(found) != 1:
        raise fault("must have one value or resource", path, code="structure")
    return Input(parameter["name"], parameter[found[0]], f"{path}.{found[0]}")


def _text(given: Input) -> str:
    value = given.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | Decimal):
        return str(value)
    raise fault("must be a simple value", given.path)
