"""JSON Patch: a list of operations on the JSON of a resource.

https://www.rfc-editor.org/rfc/rfc6902
"""

import copy
from typing import Any

import jsonpatch
import jsonpointer

from fhir_server.core.patch.budget import Budget
from fhir_server.core.patch.outcome import settle, unprocessable
from fhir_server.core.resource_json import Resource
from fhir_server.errors import FhirError, InvalidRequest, Issue, TooCostly

MAX_OPERATIONS = 10_000
_MAX_PATH = 4_000
# Characters and values that all `copy` operations together may add.
_MAX_COPIED = 4_000_000
_STEPS_PER_OPERATION = 20
_OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")
_WITH_VALUE = ("add", "replace", "test")
_WITH_FROM = ("move", "copy")


def apply(resource: Resource, operations: Any, budget: Budget | None = None) -> Resource:
    """`resource` with `operations` done, in their order; the given values are not changed.

    Raises:
        InvalidRequest: `operations` are no JSON Patch.
        InvalidResource: a path leads nowhere, a `test` fails, the type or id would change.
        TooCostly: more operations, or more copying, than one patch may.
    """
    check(operations)
    try:
        document = _perform_all(copy.deepcopy(resource), operations, budget or Budget())
        return settle(resource, document)
    except RecursionError:
        raise TooCostly("the patch, or what it makes, is nested too deeply") from None


def _perform_all(document: Any, operations: list[dict[str, Any]], budget: Budget) -> Any:
    copied = 0
    for index, operation in enumerate(operations):
        budget.spend(_STEPS_PER_OPERATION)
        if operation["op"] == "copy":
            copied += _size(document, operation["from"], _MAX_COPIED - copied)
            if copied > _MAX_COPIED:
                raise TooCostly("the patch copies more than one request may")
        document = _perform(document, index, operation)
    return document


def check(operations: Any) -> None:
    """Whether `operations` are a JSON Patch; raises `InvalidRequest`, `TooCostly`."""
    if not isinstance(operations, list):
        raise InvalidRequest("a JSON Patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise TooCostly(f"a patch has at most {MAX_OPERATIONS} operations")
    for index, operation in enumerate(operations):
        _check_operation(index, operation)


def _check_operation(index: int, operation: Any) -> None:
    op = operation.get("op") if isinstance(operation, dict) else None
    if op not in _OPERATIONS:
        raise _malformed(index, f"op must be one of {', '.join(_OPERATIONS)}")
    for name in ("path", "from") if op in _WITH_FROM else ("path",):
        if not isinstance(operation.get(name), str):
            raise _malformed(index, f"{op} needs a {name}")
        if len(operation[name]) > _MAX_PATH:
            raise _malformed(index, f"the {name} is too long")
        try:
            jsonpointer.JsonPointer(operation[name])
        except jsonpointer.JsonPointerException:
            raise _malformed(index, f"the {name} is no JSON Pointer") from None
    if op in _WITH_VALUE and "value" not in operation:
        raise _malformed(index, f"{op} needs a value")


def _perform(document: Any, index: int, operation: dict[str, Any]) -> Any:
    op = operation["op"]
    if "value" in operation:
        # Later operations may change what this one puts in.
        operation = {**operation, "value": copy.deepcopy(operation["value"])}
    try:
        return jsonpatch.JsonPatch([operation]).apply(document, in_place=True)
    except jsonpatch.JsonPatchTestFailed:
        raise _failed(index, "the test failed: another value is there, or none") from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
        raise _failed(index, f"there is nothing that {op} could be done to") from None


def _size(document: Any, pointer: str, limit: int) -> int:
    """How much is at `pointer`, counted no further than beyond `limit`; 0 if nothing is."""
    try:
        waiting = [jsonpointer.JsonPointer(pointer).resolve(document)]
    except jsonpointer.JsonPointerException:
        return 0
    size = 0
    while waiting and size <= limit:
        value = waiting.pop()
        size += 1 + (len(value) if isinstance(value, str) else 0)
        if isinstance(value, dict):
            size += sum(map(len, value))
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return size


def _malformed(index: int, diagnostics: str) -> FhirError:
    return InvalidRequest(issues=(Issue("structure", f"operation {index}: {diagnostics}"),))


def _failed(index: int, diagnostics: str) -> FhirError:
    return unprocessable(f"operation {index}: {diagnostics}")
