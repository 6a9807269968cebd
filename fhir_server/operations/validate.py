"""$validate: everything that can be said of a resource, without storing it.

The answer is an OperationOutcome with status 200, whatever it says.
https://hl7.org/fhir/R4/resource-operation-validate.html
"""

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.operation_input import fault
from fhir_server.core.outcome import ALL_OK, operation_outcome
from fhir_server.core.resource_json import Resource
from fhir_server.errors import Gone, Issue, NotFound, Unsupported
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read

_SEVERITIES = ("fatal", "error", "warning", "information")
_MODES = frozenset({"create", "update", "delete", "profile"})
_MOST_PROFILES = 20


async def validate(ctx: Context, call: Invocation) -> bytes:
    """The issues of the input `resource`, or of the stored one if there is no input.

    Raises:
        InvalidRequest: an input is missing, or not what it should be.
        NotFound, Gone: there is no stored resource to look at.
    """
    call.inputs.check_known("resource", "mode", "profile")
    mode = call.inputs.text("mode")
    if mode is not None and mode not in _MODES:
        raise fault(f"must be one of {', '.join(sorted(_MODES))}", "mode", code="code-invalid")
    profiles = call.inputs.texts("profile")
    if len(profiles) > _MOST_PROFILES:
        raise fault(f"at most {_MOST_PROFILES} profiles at once", "profile", code="too-costly")
    if mode in ("update", "delete") and call.resource_id is None:
        raise fault(f"{mode} is asked of a resource: [type]/[id]/$validate", "mode")
    if mode == "create" and call.resource_id is not None:
        raise fault("a create is asked of a type: [type]/$validate", "mode")
    if mode == "delete":
        return _answer(await _delete_issues(ctx, call))
    given = call.inputs.objects("resource")
    if len(given) > 1:
        raise fault("one resource is expected", "resource")
    if given:
        return _answer(_issues(ctx, call, given[0], profiles, mode))
    if call.resource_id is None or mode == "update":
        raise fault("a resource is needed", "resource", code="required")
    stored = await read(ctx, ResourceKey(call.resource_type or "", call.resource_id))
    return _answer(_issues(ctx, call, stored.resource(), profiles, mode))


def _issues(
    ctx: Context, call: Invocation, resource: Resource, profiles: tuple[str, ...], mode: str | None
) -> tuple[Issue, ...]:
    if ctx.thorough is None:
        raise Unsupported("resources are not validated here")
    found: list[Issue] = []
    if resource.get("resourceType") != call.resource_type:
        text = "the URL says another type"
        found.append(Issue("invalid", text, "Resource.resourceType"))
    if mode == "update" and resource.get("id") != call.resource_id:
        found.append(Issue("invalid", "the id is not that in the URL", f"{call.resource_type}.id"))
    return (*found, *ctx.thorough.check_thoroughly(resource, profiles))


async def _delete_issues(ctx: Context, call: Invocation) -> tuple[Issue, ...]:
    """Nothing that is stored forbids a deletion: it has only to be there."""
    try:
        await read(ctx, ResourceKey(call.resource_type or "", call.resource_id or ""))
    except (NotFound, Gone) as error:
        return error.issues
    return ()


def _answer(issues: tuple[Issue, ...]) -> bytes:
    """The worst first: what must be put right is not to be looked for among what may be."""
    told = sorted(issues, key=lambda issue: _SEVERITIES.index(issue.severity))
    return resource_json.format(operation_outcome(told or ALL_OK))
