"""The operations of a FHIRPath Patch, read from the Parameters resource that holds them.

https://hl7.org/fhir/R4/fhirpatch.html
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

from fhir_server.core.fhirpath.expression import Expression, FhirPathError
from fhir_server.core.fhirpath.parse import parse as parse_path
from fhir_server.errors import InvalidRequest, Issue, TooCostly

MAX_OPERATIONS = 1_000
_MAX_PATH = 2_000

Kind = Literal["add", "insert", "delete", "replace", "move"]

_NEEDED: dict[str, tuple[str, ...]] = {
    "add": ("name", "value"),
    "insert": ("index", "value"),
    "delete": (),
    "replace": ("value",),
    "move": ("source", "destination"),
}
_PARTS = frozenset({"type", "path", "name", "value", "index", "source", "destination"})
# The parts that are integers, by the names they have here.
_INTEGERS = {"position": "index", "source": "source", "destination": "destination"}


class PatchOperation(NamedTuple):
    """One operation. `value` is the part that holds it; `at` is its place in the Parameters.

    `position` is what R4 calls index.
    """

    kind: Kind
    path: Expression
    at: str
    name: str = ""
    value: dict[str, Any] | None = None
    position: int = 0
    source: int = 0
    destination: int = 0


def parse_operations(parameters: Any) -> list[PatchOperation]:
    """The operations, in their order.

    Raises:
        InvalidRequest: `parameters` are no FHIRPath Patch; it says where.
        TooCostly: there are more than one patch may have.
    """
    if not isinstance(parameters, dict) or parameters.get("resourceType") != "Parameters":
        raise InvalidRequest("a FHIRPath Patch is a Parameters resource")
    listed = parameters.get("parameter", [])
    if not isinstance(listed, list):
        raise fault("must be a list", "Parameters.parameter")
    if len(listed) > MAX_OPERATIONS:
        raise TooCostly(f"a patch has at most {MAX_OPERATIONS} operations")
    return [_parse(item, f"Parameters.parameter[{i}]") for i, item in enumerate(listed)]


def fault(diagnostics: str, at: str) -> InvalidRequest:
    """The fault of something in the Parameters that cannot be understood."""
    return InvalidRequest(issues=(Issue("structure", diagnostics, at),))


def parts_of(holder: dict[str, Any], at: str) -> list[dict[str, Any]]:
    """The parts of a parameter, each with a name."""
    parts = holder.get("part", [])
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts
    ):
        raise fault("each part must have a name", f"{at}.part")
    return cast("list[dict[str, Any]]", parts)


def _parse(item: Any, at: str) -> PatchOperation:
    if not isinstance(item, dict) or item.get("name") != "operation":
        raise fault("the parameters of a patch are named operation", at)
    parts: dict[str, dict[str, Any]] = {}
    for part in parts_of(item, at):
        if part["name"] not in _PARTS:
            raise fault(f"the parts of an operation are {', '.join(sorted(_PARTS))}", at)
        if part["name"] in parts:
            raise fault(f"{part['name']} is there twice", at)
        parts[part["name"]] = part
    kind = _text(parts, "type", ("valueCode", "valueString"), at)
    if kind not in _NEEDED:
        raise fault(f"type must be one of {', '.join(_NEEDED)}", at)
    for name in _NEEDED[kind]:
        if name not in parts:
            raise fault(f"{kind} needs the part {name}", at)
    given = {own: _integer(parts[n], at) for own, n in _INTEGERS.items() if n in parts}
    return PatchOperation(
        kind=cast("Kind", kind),
        path=_path(_text(parts, "path", ("valueString",), at), at),
        at=at,
        name=_text(parts, "name", ("valueString", "valueCode"), at) if "name" in parts else "",
        value=parts.get("value"),
        **given,
    )


def _path(text: str, at: str) -> Expression:
    if len(text) > _MAX_PATH:
        raise fault("the path is too long", at)
    try:
        return parse_path(text)
    except (FhirPathError, RecursionError) as error:
        reason = str(error) if isinstance(error, FhirPathError) else "it is nested too deeply"
        raise fault(f"the path cannot be followed: {reason}", at) from None


def _text(parts: dict[str, dict[str, Any]], name: str, properties: Sequence[str], at: str) -> str:
    part = parts.get(name, {})
    for property_ in properties:
        if isinstance(part.get(property_), str) and part[property_]:
            return str(part[property_])
    raise fault(f"an operation needs a {name}, as {properties[0]}", at)


def _integer(part: dict[str, Any], at: str) -> int:
    for name in ("valueInteger", "valueUnsignedInt", "valuePositiveInt"):
        value = part.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    raise fault(f"{part['name']} must be a valueInteger from 0", at)
