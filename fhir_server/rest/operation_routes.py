"""The table of operations, and the routes that are made of it.

The CapabilityStatement and /openapi.json read the same table.
https://hl7.org/fhir/R4/operations.html
"""

from collections.abc import Iterable, Iterator

from starlette.responses import Response

from fhir_server.core import operation_input
from fhir_server.interactions.operation import Level, Operation, invoke
from fhir_server.operations import (
    acknowledge,
    everything,
    lastn,
    meta,
    stats,
    subscription_status,
    validate,
    websocket_token,
)
from fhir_server.rest import responses
from fhir_server.rest.dispatch import Endpoint, FhirRoute
from fhir_server.rest.request import FhirRequest

_HL7 = "http://hl7.org/fhir/OperationDefinition/"
_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-"
_SUBSCRIPTION = frozenset({"Subscription"})
_PATIENT = frozenset({"Patient"})
_OBSERVATION = frozenset({"Observation"})

OPERATIONS = (
    Operation(
        "everything", _HL7 + "Patient-everything", everything.everything, ("instance",), _PATIENT
    ),
    Operation("lastn", _HL7 + "Observation-lastn", lastn.lastn, ("type",), _OBSERVATION),
    Operation("stats", _HL7 + "Observation-stats", stats.stats, ("type",), _OBSERVATION),
    Operation("meta", _HL7 + "Resource-meta", meta.meta, ("system", "type", "instance")),
    Operation(
        "meta-add", _HL7 + "Resource-meta-add", meta.meta_add, ("instance",), affects_state=True
    ),
    Operation(
        "meta-delete",
        _HL7 + "Resource-meta-delete",
        meta.meta_delete,
        ("instance",),
        affects_state=True,
    ),
    Operation(
        "validate",
        _HL7 + "Resource-validate",
        validate.validate,
        ("type", "instance"),
        takes_resource=True,
    ),
    Operation(
        "acknowledge",
        "https://pmp.example/fhir/OperationDefinition/acknowledge",
        acknowledge.acknowledge,
        ("instance",),
        frozenset({"DetectedIssue"}),
        affects_state=True,
    ),
    Operation(
        "status",
        _BACKPORT + "subscription-status",
        subscription_status.status,
        ("type", "instance"),
        _SUBSCRIPTION,
    ),
    Operation(
        "events",
        _BACKPORT + "subscription-events",
        subscription_status.events,
        ("instance",),
        _SUBSCRIPTION,
    ),
    Operation(
        "get-ws-binding-token",
        _BACKPORT + "subscription-get-ws-binding-token",
        websocket_token.get_ws_binding_token,
        ("type", "instance"),
        _SUBSCRIPTION,
    ),
)


def operation_routes(operations: Iterable[Operation]) -> Iterator[FhirRoute]:
    """A route for each operation, level, type and method."""
    for operation in operations:
        endpoint = _endpoint(operation.name, takes_resource=operation.takes_resource)
        for level in operation.levels:
            for path in _paths(operation, level):
                for method in ("POST",) if operation.affects_state else ("GET", "POST"):
                    yield FhirRoute(method, path, endpoint, f"{operation.name}-{level}")


def _paths(operation: Operation, level: Level) -> Iterator[str]:
    types = ("",) if level == "system" else sorted(operation.resource_types) or ("{type}",)
    for name in types:
        place = {"system": "", "type": f"/{name}", "instance": f"/{name}/{{id}}"}[level]
        yield f"{place}/${operation.name}"


def _endpoint(name: str, *, takes_resource: bool) -> Endpoint:
    async def perform(request: FhirRequest) -> Response:
        is_read_only = request.method != "POST"
        inputs = operation_input.of_params(request.params)
        if not is_read_only:
            inputs = await _posted(request, takes_resource=takes_resource)
        body = await invoke(
            request.ctx,
            name,
            request.path,
            inputs,
            is_strict=request.preferences.is_strict,
            is_read_only=is_read_only,
        )
        return responses.of_body(request, body)

    return perform


async def _posted(request: FhirRequest, *, takes_resource: bool) -> operation_input.Inputs:
    """What stands in the URL, and the Parameters or the form in the body, if there is one."""
    if request.is_form:
        return operation_input.of_params(await request.form())
    inputs = operation_input.of_params(request.params)
    if request.has_body:
        resource = await request.resource()
        if takes_resource and resource.get("resourceType") != "Parameters":
            return inputs.and_also(operation_input.of_input_resource(resource))
        inputs = inputs.and_also(operation_input.of_resource(resource))
    return inputs
