"""What a client sent: checked before any of it is stored."""

from fhir_server.core.identity import ResourceKey, is_resource_id
from fhir_server.core.resource_json import Resource
from fhir_server.core.security import subscriber
from fhir_server.core.security.deidentify import LABEL
from fhir_server.core.security.restriction import SUBSCRIPTION
from fhir_server.core.security.scope import Permission
from fhir_server.core.validation import narrative
from fhir_server.core.whom import patient_of
from fhir_server.errors import Forbidden, InvalidRequest, InvalidResource, Issue, NotFound
from fhir_server.interactions.context import Context

_WORDS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


def check_may(ctx: Context, act: Permission, resource_type: str) -> None:
    """Raises `Forbidden` where no scope lets the principal do such a thing with the type.

    What of the type is out of reach is another matter: that is not there.
    """
    if ctx.reach is not None and not ctx.reach.grants(act, resource_type):
        raise Forbidden(f"no scope of the token lets it {_WORDS[act]} {resource_type}")


def check_resource_type(ctx: Context, resource_type: str) -> None:
    """Raises `NotFound` for what is no resource type of R4, a mis-cased one included."""
    if resource_type not in ctx.validator.resource_types:
        raise NotFound("there is no such resource type in R4; mind the case")


def check_key(ctx: Context, key: ResourceKey) -> None:
    """Raises `NotFound` for a key that nothing can have."""
    check_resource_type(ctx, key.resource_type)
    if not is_resource_id(key.resource_id):
        raise NotFound("no resource has such an id: 1 to 64 of A-Z, a-z, 0-9, - and .")


def check_writable_id(resource_id: str) -> None:
    """Raises `InvalidRequest` for an id that cannot be given to a resource."""
    if not is_resource_id(resource_id):
        raise InvalidRequest("an id has 1 to 64 of A-Z, a-z, 0-9, - and .")


def check_resource(ctx: Context, resource: Resource) -> tuple[Issue, ...]:
    """What the validator says that does not forbid to store `resource`.

    Raises:
        InvalidResource: an error, where validation is strict; always, where the
            server could not even version the resource, or it has a narrative that acts.
    """
    is_subscription = resource.get("resourceType") == SUBSCRIPTION
    if ctx.reach is not None and is_subscription and isinstance(resource.get("meta", {}), dict):
        # Its events are told long after, and only of what whoever writes it may see then.
        subscriber.mark(resource, ctx.reach.principal)
    issues = ctx.validator.check(resource)
    _check_standing(ctx, resource)
    if not ctx.is_validation_strict:
        _check_narratives(resource)
    if issues:
        is_fatal = ctx.is_validation_strict and any(
            issue.severity in ("error", "fatal") for issue in issues
        )
        if is_fatal or not isinstance(resource.get("meta", {}), dict):
            raise InvalidResource(issues=issues)
    return issues


def _check_narratives(resource: Resource) -> None:
    """What would act where it is shown is taken under no validation (strict finds it itself)."""
    if issues := narrative_faults(resource):
        raise InvalidResource(issues=issues)


def narrative_faults(resource: Resource) -> tuple[Issue, ...]:
    """Narratives of `resource` with anything that loads, runs or submits."""
    told = "a narrative is formatted text: nothing in it loads, runs or submits"
    found = narrative.acting(resource, str(resource.get("resourceType")))
    return tuple(Issue("invalid", told, path) for path in found)


def _check_standing(ctx: Context, resource: Resource) -> None:
    """De-identified and source data are never in one store: side by side they name each other."""
    meta = resource.get("meta")
    security = meta.get("security") if isinstance(meta, dict) else None
    is_labelled = isinstance(security, list) and any(
        isinstance(label, dict)
        and (label.get("system"), label.get("code")) == (LABEL["system"], LABEL["code"])
        for label in security
    )
    if is_labelled is ctx.is_depersonalized:
        return
    if is_labelled:
        told = "what was de-identified is kept in a store of its own"
    elif resource.get("resourceType") == "Patient" or patient_of(resource):
        told = "this store keeps only what was de-identified"
    else:
        return
    where = f"{resource.get('resourceType')}.meta.security"
    raise InvalidResource(issues=(Issue("business-rule", told, where),))


def errors_of(ctx: Context, resource: Resource) -> tuple[Issue, ...]:
    """What the validator says that forbids to store `resource` where validation is strict."""
    return tuple(i for i in ctx.validator.check(resource) if i.severity in ("error", "fatal"))


def check_same_key(key: ResourceKey, resource: Resource) -> None:
    """Raises `InvalidRequest` unless `resource` says itself that it is `key`."""
    name = key.resource_type
    if resource.get("resourceType") != name:
        raise InvalidRequest(
            issues=(
                Issue(
                    "invalid",
                    f"the URL says {name}, the body something else",
                    "Resource.resourceType",
                ),
            )
        )
    if resource.get("id") != key.resource_id:
        said = "differs from the id in the URL" if "id" in resource else "is missing in the body"
        raise InvalidRequest(issues=(Issue("invalid", f"the id {said}", f"{name}.id"),))


def check_type(resource_type: str, resource: Resource) -> None:
    """Raises `InvalidRequest` unless `resource` is of the type that the URL names."""
    if resource.get("resourceType") != resource_type:
        issue = Issue(
            "invalid",
            f"the URL says {resource_type}, the body something else",
            "Resource.resourceType",
        )
        raise InvalidRequest(issues=(issue,))
