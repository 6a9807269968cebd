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
    adherence,
    apply,
    closure,
    device_statistics,
    everything,
    expand,
    export,
    lastn,
    lookup,
    meta,
    stats,
    subscription_status,
    translate,
    validate,
    validate_code,
    views,
    websocket_token,
)
from fhir_server.rest import responses
from fhir_server.rest.dispatch import Endpoint, FhirRoute
from fhir_server.rest.request import FhirRequest

_HL7 = "http://hl7.org/fhir/OperationDefinition/"
_BULK = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-"
_SUBSCRIPTION = frozenset({"Subscription"})
_PATIENT = frozenset({"Patient"})
_GROUP = frozenset({"Group"})
_OBSERVATION = frozenset({"Observation"})
_CODE_SYSTEM = frozenset({"CodeSystem"})
_VALUE_SET = frozenset({"ValueSet"})
_CONCEPT_MAP = frozenset({"ConceptMap"})

OPERATIONS = (
    Operation(
        "everything", _HL7 + "Patient-everything", everything.everything, ("instance",), _PATIENT
    ),
    Operation("export", _BULK + "export", export.refuse, ("system",)),
    Operation("export", _BULK + "patient-export", export.refuse, ("type",), _PATIENT),
    Operation("export", _BULK + "group-export", export.refuse, ("instance",), _GROUP),
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
    *(
        Operation(
            name,
            f"https://pmp.example/fhir/OperationDefinition/{name}",
            perform,
            ("instance",),
            _PATIENT,
        )
        for name, perform in (
            ("cgm-summary", views.cgm_summary),
            ("cgm-day", views.cgm_day),
            ("home-blood-pressure", views.home_blood_pressure),
        )
    ),
    Operation(
        "device-statistics",
        "https://pmp.example/fhir/OperationDefinition/device-statistics",
        device_statistics.device_statistics,
        ("type",),
        frozenset({"Device"}),
    ),
    Operation(
        "apply",
        _HL7 + "PlanDefinition-apply",
        apply.apply,
        ("type", "instance"),
        frozenset({"PlanDefinition"}),
        affects_state=True,
    ),
    Operation(
        "adherence",
        "https://pmp.example/fhir/OperationDefinition/adherence",
        adherence.adherence,
        ("instance",),
        frozenset({"CarePlan"}),
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
    Operation("lookup", _HL7 + "CodeSystem-lookup", lookup.lookup, ("type",), _CODE_SYSTEM),
    Operation(
        "subsumes",
        _HL7 + "CodeSystem-subsumes",
        lookup.subsumes,
        ("type", "instance"),
        _CODE_SYSTEM,
    ),
    Operation(
        "validate-code",
        _HL7 + "CodeSystem-validate-code",
        validate_code.validate_in_code_system,
        ("type", "instance"),
        _CODE_SYSTEM,
    ),
    Operation(
        "validate-code",
        _HL7 + "ValueSet-validate-code",
        validate_code.validate_in_value_set,
        ("type", "instance"),
        _VALUE_SET,
    ),
    Operation(
        "expand",
        _HL7 + "ValueSet-expand",
        expand.expand_value_set,
        ("type", "instance"),
        _VALUE_SET,
    ),
    Operation(
        "translate",
        _HL7 + "ConceptMap-translate",
        translate.translate_code,
        ("type", "instance"),
        _CONCEPT_MAP,
    ),
    Operation(
        "closure",
        _HL7 + "ConceptMap-closure",
        closure.keep_closure,
        ("system", "type"),
        _CONCEPT_MAP,
        affects_state=True,
    ),
)


def operation_routes(operations: Iterable[Operation]) -> Iterator[FhirRoute]:
    """A route for each operation, level, type and method; `exports.py` has those of $export."""
    for operation in operations:
        if operation.perform is export.refuse:
            continue
        endpoint = _endpoint(operation.name, takes_resource=operation.takes_resource)
        for level in operation.levels:
            for path in _paths(operation, level):
                for method in ("POST",) if operation.affects_state else ("GET", "POST"):
                    yield FhirRoute(method, path, endpoint, f"{_title(operation)}-{level}")


def _title(operation: Operation) -> str:
    """Its name; with its type where the types have operations of one name."""
    is_shared = sum(each.name == operation.name for each in OPERATIONS) > 1
    types = "-".join(sorted(each.lower() for each in operation.resource_types))
    return f"{types}-{operation.name}" if is_shared else operation.name


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
