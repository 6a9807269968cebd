"""PlanDefinition/$apply: a plan for a patient, as a proposal or stored with all of its parts.

https://hl7.org/fhir/R4/plandefinition-operation-apply.html

R4 answers with a CarePlan and leaves open whether it is stored. Here it is a proposal that
contains its Goals and ServiceRequests; with `store` they are resources of their own (ADR 0022).
"""

from typing import Any

from fhir_server.core import date_range, reference, resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import plan_definition
from fhir_server.core.monitoring.clock_zone import zone_of
from fhir_server.core.monitoring.plan_definition import Application
from fhir_server.core.operation_input import Inputs, fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, format_instant, next_version
from fhir_server.errors import (
    InvalidRequest,
    InvalidResource,
    Issue,
    MultipleMatches,
    NotFound,
    VersionConflict,
)
from fhir_server.interactions.condition import parse_condition
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_resource
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import check_present, read
from fhir_server.store.protocol import Transaction

# What R4 names and a plan of measurements does not depend on.
_NO_DIFFERENCE = ("userType", "userLanguage", "userTaskContext", "setting", "settingContext")
_INPUTS = (
    "planDefinition", "url", "version", "subject", "encounter", "practitioner", "organization",
    "identifier", "start", "end", "store", *_NO_DIFFERENCE,
)  # fmt: skip


async def apply(ctx: Context, call: Invocation) -> bytes:
    """The CarePlan.

    Raises:
        InvalidRequest: an input is missing or means nothing.
        NotFound, Gone: there is no such PlanDefinition or patient.
        InvalidResource: the definition asks for what cannot be done.
        VersionConflict: the identifier is that of another plan.
    """
    call.inputs.check_known(*_INPUTS)
    definition = await _definition(ctx, call)
    if definition.get("status") == "retired":
        raise InvalidResource(issues=(Issue("business-rule", "it is retired", "PlanDefinition"),))
    subject = _reference(ctx, call.inputs, "subject")
    if subject is None:
        raise fault("is missing", "subject", code="required")
    patient = await read(ctx, _patient(subject))
    zone = zone_of(patient.resource(), date_range.load_zone(ctx.time_zone))
    now = format_instant(ctx.now())
    is_stored = call.inputs.text("store") == "true"
    how = Application(
        subject=subject,
        start=_date(ctx, call.inputs, "start")
        or ctx.now().astimezone(zone).isoformat("T", "seconds"),
        now=now,
        end=_date(ctx, call.inputs, "end"),
        practitioner=_reference(ctx, call.inputs, "practitioner"),
        organization=_reference(ctx, call.inputs, "organization"),
        encounter=_reference(ctx, call.inputs, "encounter"),
        identifier=_identifier(call.inputs),
    )
    if is_stored and how.identifier is None:
        raise fault("store needs the order's own identifier", "identifier", code="required")
    try:
        applied = plan_definition.apply(definition, how, ctx.new_id if is_stored else None, zone)
    except (ValueError, ArithmeticError):
        raise fault("the plan cannot begin or end then", "start") from None
    resources = (*applied.goals, *applied.requests, applied.plan)
    if not is_stored:
        check_resource(ctx, applied.plan)
        return resource_json.format(applied.plan)
    for resource in resources:
        check_resource(ctx, resource)

    def decide(tx: Transaction) -> Version:
        if (known := _known(tx, how)) is not None:
            return _again(known, applied.plan)
        if (holder := tx.read(patient.key)) is None:
            raise NotFound(f"{patient.key} is not known")
        check_present(holder)
        version: Version | None = None
        for resource in resources:
            key = ResourceKey(resource["resourceType"], resource["id"])
            version, stored = next_version(None, key, resource, tx.now)
            tx.put(version, stored)
        if version is None:
            raise LookupError("an application without a plan")
        return version

    version = await ctx.store.commit(decide)
    if version.body is None:
        raise LookupError(f"{version.key} was put without a body")
    return version.body


def _known(tx: Transaction, how: Application) -> Version | None:
    """The plan that this order has made before."""
    name = plan_definition.application_identifier(how.identifier or {}, "plan")
    keys = tx.find("CarePlan", (name,)).get(name, ())
    if len(keys) > 1:
        raise MultipleMatches("the identifier names several plans")
    return tx.read(keys[0]) if keys else None


def _again(known: Version, plan: Resource) -> Version:
    """`known` as it stands now: a physician may have changed it since."""
    stored = known.resource()
    for name in ("subject", "instantiatesCanonical"):
        if stored.get(name) != plan.get(name):
            raise VersionConflict(f"the identifier is that of {known.key}, which is another plan")
    return known


async def _definition(ctx: Context, call: Invocation) -> Resource:
    given = call.inputs.objects("planDefinition")
    url, version = call.inputs.text("url"), call.inputs.text("version")
    if call.resource_id is not None:
        if given or url:
            raise fault("the definition is that of the URL", "planDefinition")
        return (await read(ctx, ResourceKey("PlanDefinition", call.resource_id))).resource()
    if len(given) + (url is not None) != 1:
        raise fault("one planDefinition or url is expected", "planDefinition", code="required")
    if given:
        if given[0].get("resourceType") != "PlanDefinition":
            raise fault("must be a PlanDefinition", "planDefinition")
        check_resource(ctx, given[0])
        return given[0]
    own, _, of_version = (url or "").partition("|")
    params = [("url", own)]
    if version := version or of_version:
        params.append(("version", version))
    found = parse_condition(ctx, "PlanDefinition", tuple(params))
    versions = (await ctx.store.search(found.query)).versions
    if not versions:
        raise NotFound("no PlanDefinition has that url")
    if len(versions) > 1:
        raise MultipleMatches("several PlanDefinitions have that url: name the version")
    return versions[0].resource()


def _reference(ctx: Context, inputs: Inputs, name: str) -> Resource | None:
    """A Reference, or the text of one."""
    given = inputs.values(name)
    if len(given) > 1:
        raise fault("is given more than once", name)
    if not given:
        return None
    value: Any = given[0]
    if not isinstance(value, dict):
        value = {"reference": str(value)}
    text = value.get("reference")
    if text is None and not value.get("identifier"):
        raise fault("must be a reference", name)
    if text is not None:
        text = reference.within(str(text), ctx.base_url)
        if reference.parse(text) is None:
            raise fault("must be a reference", name)
        value = {**value, "reference": text}
    return {key: part for key, part in value.items() if part is not None}


def _patient(subject: Resource) -> ResourceKey:
    found = reference.parse(subject.get("reference", ""))
    if found is None or not found.is_local or found.resource_type != "Patient":
        raise fault("a patient of this server, as Patient/id", "subject")
    return ResourceKey("Patient", str(found.resource_id))


def _identifier(inputs: Inputs) -> Resource | None:
    given = inputs.values("identifier")
    if len(given) > 1:
        raise fault("is given more than once", "identifier")
    if not given:
        return None
    value: Any = given[0]
    if not isinstance(value, dict):
        system, _, text = str(value).rpartition("|")
        value = {"system": system, "value": text} if system else {"value": text}
    if not isinstance(value.get("value"), str) or not value["value"]:
        raise fault("must have a value", "identifier")
    return dict(value)


def _date(ctx: Context, inputs: Inputs, name: str) -> str:
    text = inputs.text(name)
    if text is None:
        return ""
    try:
        date_range.parse(text, date_range.load_zone(ctx.time_zone))
    except (ValueError, ArithmeticError):
        raise fault("must be a date or dateTime", name) from None
    if len(text) < len("2026-01-01"):
        raise InvalidRequest(issues=(Issue("invalid", "must name the day", name),))
    return text
