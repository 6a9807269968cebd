"""The plan of a transaction: its entries understood, linked and checked before any is stored.

https://hl7.org/fhir/R4/http.html#trules
"""

from collections.abc import Container, Sequence
from typing import NamedTuple

from fhir_server.core import links, query_string
from fhir_server.core.bundle_request import (
    RefusedEntry,
    RequestEntry,
    entity_tags,
    expression,
    required_resource,
)
from fhir_server.core.etag import EntityTags
from fhir_server.core.identity import ResourceKey
from fhir_server.core.links import Conditional
from fhir_server.core.patch.entry import parse_entry
from fhir_server.core.patch.patch import Patch
from fhir_server.core.resource_json import Resource
from fhir_server.errors import FhirError, InvalidRequest, Issue, Unsupported
from fhir_server.interactions.condition import Condition, parse_condition
from fhir_server.interactions.conditional_update import own_id
from fhir_server.interactions.context import Context
from fhir_server.interactions.entry_faults import overlap, placed, with_issues
from fhir_server.interactions.incoming import (
    check_key,
    check_resource,
    check_resource_type,
    check_same_key,
    check_type,
    check_writable_id,
)
from fhir_server.interactions.operation import Level


class Deletion(NamedTuple):
    """A DELETE of a key, or of what matches a condition."""

    position: int
    target: ResourceKey | Condition
    if_match: EntityTags | None


class Creation(NamedTuple):
    """`key` is what it gets unless `condition` finds another."""

    position: int
    key: ResourceKey
    resource: Resource
    condition: Condition | None


class Update(NamedTuple):
    """A PUT; with a `condition`, `key` is what it gets unless that finds another."""

    position: int
    key: ResourceKey
    resource: Resource
    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None
    condition: Condition | None = None


class Patching(NamedTuple):
    """A PATCH of a key, or of what matches a condition. It is applied where it commits."""

    position: int
    target: ResourceKey | Condition
    change: Patch
    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None


class Reading(NamedTuple):
    """A GET: `key` where it is a plain read, which the decision itself can do."""

    entry: RequestEntry
    key: ResourceKey | None


Step = Deletion | Creation | Update | Patching | Reading


class Reference(NamedTuple):
    """A conditional reference and what it asks."""

    condition: Condition
    link: Conditional


class Plan(NamedTuple):
    """What to do. `references` are the conditional ones, by the index of their entry.

    `targets` is what each `fullUrl` of the Bundle becomes.
    """

    deletions: tuple[Deletion, ...]
    creations: tuple[Creation, ...]
    updates: tuple[Update, ...]
    patches: tuple[Patching, ...]
    readings: tuple[Reading, ...]
    references: dict[int, tuple[Reference, ...]]
    targets: dict[str, str]
    size: int


def make_plan(ctx: Context, entries: Sequence[RequestEntry | RefusedEntry]) -> Plan:
    """The plan of `entries`.

    Raises:
        FhirError: of the kind of the first fault, with the issues of all.
    """
    faults: list[FhirError] = []
    steps: list[tuple[RequestEntry, Step]] = []
    for entry in entries:
        if isinstance(entry, RefusedEntry):
            faults.append(entry.error)
            continue
        try:
            with placed(entry.position):
                steps.append((entry, _understand(ctx, entry)))
        except FhirError as error:
            faults.append(error)
    faults += _overlaps(steps)
    targets = _targets(ctx, steps)
    linked: list[Step] = []
    references: dict[int, tuple[Reference, ...]] = {}
    for entry, step in steps:
        try:
            with placed(entry.position):
                step = _link(step, targets, entry.full_url)
                _check(ctx, step)
                if found := _references(ctx, step):
                    references[entry.position] = found
        except FhirError as error:
            faults.append(error)
        linked.append(step)
    if faults:
        raise with_issues(faults[0], [issue for fault in faults for issue in fault.issues])
    return Plan(
        tuple(step for step in linked if isinstance(step, Deletion)),
        tuple(step for step in linked if isinstance(step, Creation)),
        tuple(step for step in linked if isinstance(step, Update)),
        tuple(step for step in linked if isinstance(step, Patching)),
        tuple(step for step in linked if isinstance(step, Reading)),
        references,
        targets,
        len(entries),
    )


def _understand(ctx: Context, entry: RequestEntry) -> Step:
    at = f"{entry.expression}.request.url"
    if entry.method in ("GET", "HEAD"):
        is_read = len(entry.path) == 2 and entry.path[1][0] not in "_$"
        if entry.path and entry.path[0][0] not in "_$" and entry.path != ("metadata",):
            check_resource_type(ctx, entry.path[0])
        return Reading(entry, ResourceKey(entry.path[0], entry.path[1]) if is_read else None)
    if entry.method == "POST" and (called := _called(ctx, entry)) is not None:
        return called
    if entry.path:
        check_resource_type(ctx, entry.path[0])
    match entry.method, entry.path:
        case "DELETE", (resource_type, resource_id):
            key = ResourceKey(resource_type, resource_id)
            return Deletion(entry.position, key, entity_tags(entry.if_match))
        case "DELETE", (resource_type,):
            condition = parse_condition(ctx, resource_type, entry.params)
            return Deletion(entry.position, condition, entity_tags(entry.if_match))
        case "POST", (resource_type,):
            resource = required_resource(entry)
            check_type(resource_type, resource)
            key = ResourceKey(resource_type, ctx.new_id())
            return Creation(entry.position, key, resource, _if_none_exist(ctx, entry))
        case "PUT", (resource_type, resource_id):
            key = ResourceKey(resource_type, resource_id)
            check_writable_id(resource_id)
            resource = required_resource(entry)
            check_same_key(key, resource)
            tags = entity_tags(entry.if_match), entity_tags(entry.if_none_match)
            return Update(entry.position, key, resource, *tags)
        case "PUT", (resource_type,):
            resource = required_resource(entry)
            check_type(resource_type, resource)
            condition = parse_condition(ctx, resource_type, entry.params)
            key = ResourceKey(resource_type, own_id(resource) or ctx.new_id())
            tags = entity_tags(entry.if_match), entity_tags(entry.if_none_match)
            return Update(entry.position, key, resource, *tags, condition=condition)
        case "PATCH", (resource_type, *rest) if len(rest) < 2:
            change = parse_entry(required_resource(entry), ctx.element_types)
            tags = entity_tags(entry.if_match), entity_tags(entry.if_none_match)
            if not rest:
                condition = parse_condition(ctx, resource_type, entry.params)
                return Patching(entry.position, condition, change, *tags)
            key = ResourceKey(resource_type, rest[0])
            check_key(ctx, key)
            return Patching(entry.position, key, change, *tags)
    issue = Issue("not-supported", f"{entry.method} of this is not done in a transaction", at)
    raise Unsupported(issues=(issue,))


def _called(ctx: Context, entry: RequestEntry) -> Reading | None:
    """A posted search, or an operation that changes nothing."""
    if not entry.path or entry.path[-1] == "_search":
        return Reading(entry._replace(path=entry.path[:-1]), None) if entry.path else None
    if entry.path[-1].startswith("$"):
        level: Level = ("system", "type", "instance")[min(len(entry.path), 3) - 1]
        resource_type = entry.path[0] if len(entry.path) > 1 else None
        if not ctx.operations.find(entry.path[-1][1:], level, resource_type).affects_state:
            return Reading(entry, None)
    return None


def _if_none_exist(ctx: Context, entry: RequestEntry) -> Condition | None:
    if entry.if_none_exist is None:
        return None
    params = query_string.parse_condition(entry.if_none_exist)
    return parse_condition(ctx, entry.path[0], params)


def _overlaps(steps: Sequence[tuple[RequestEntry, Step]]) -> list[FhirError]:
    """A fault for each entry about a resource, or with a `fullUrl`, that an earlier one has."""
    faults: list[FhirError] = []
    seen: set[ResourceKey | Condition] = set()
    full_urls: set[str] = set()
    for entry, step in steps:
        target: ResourceKey | Condition | None = None
        if isinstance(step, Deletion | Patching):
            target = step.target
        elif isinstance(step, Update):
            target = step.condition or step.key
        if target in seen:
            faults.append(overlap(entry.position))
        elif target is not None:
            seen.add(target)
        if entry.full_url is not None and not isinstance(step, Reading):
            if entry.full_url in full_urls:
                issue = Issue("invalid", "an earlier entry has the same fullUrl", entry.expression)
                faults.append(InvalidRequest(issues=(issue,)))
            full_urls.add(entry.full_url)
    return faults


def _targets(ctx: Context, steps: Sequence[tuple[RequestEntry, Step]]) -> dict[str, str]:
    """What each `fullUrl` of the Bundle becomes."""
    targets: dict[str, str] = {}
    own = ctx.base_url + "/"
    for entry, step in steps:
        if entry.full_url is not None and isinstance(step, Creation | Update):
            targets[entry.full_url] = str(step.key)
            if entry.full_url.startswith(own):
                targets[entry.full_url[len(own) :]] = str(step.key)
    return targets


def _link(step: Step, targets: dict[str, str], full_url: str | None) -> Step:
    if targets and isinstance(step, Creation | Update):
        return step._replace(resource=links.follow(step.resource, targets, full_url))
    return step


def _check(ctx: Context, step: Step) -> None:
    # After the linking: a urn says nothing of the type that it stands for.
    if isinstance(step, Creation | Update):
        check_linked(step.resource, step.position)
        check_resource(ctx, step.resource)


def check_linked(resource: Resource, position: int, known: Container[str] = ()) -> None:
    """Raises `InvalidRequest` for references to an entry that the Bundle does not have.

    `known` are those that the resource had before.
    """
    path = f"{expression(position)}.resource"
    issues = [
        Issue("not-found", "no entry of the Bundle has this fullUrl", at)
        for urn, at in links.urn_references(resource, path)
        if urn not in known
    ]
    if issues:
        raise InvalidRequest(issues=issues)


def _references(ctx: Context, step: Step) -> tuple[Reference, ...]:
    if not isinstance(step, Creation | Update):
        return ()
    return references_of(ctx, step.resource, step.position)


def references_of(ctx: Context, resource: Resource, position: int) -> tuple[Reference, ...]:
    """The conditional references of `resource`, that of the entry at `position`.

    Raises:
        FhirError: one of them means nothing.
    """
    path = f"{expression(position)}.resource"
    found = []
    for link in links.conditional_references(resource, path):
        try:
            check_resource_type(ctx, link.resource_type)
            params = query_string.parse(link.query)
            found.append(Reference(parse_condition(ctx, link.resource_type, params), link))
        except FhirError as error:
            issues = [issue._replace(expression=link.expression) for issue in error.issues]
            raise with_issues(error, issues) from None
    return tuple(found)
