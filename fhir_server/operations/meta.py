"""$meta, $meta-add, $meta-delete: profiles, tags and security labels by themselves.

A change of them is a version like any other here, so that history, subscribers and
registries learn of it. https://hl7.org/fhir/R4/resource-operations.html
"""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.operation_input import fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import AnyOf, Query
from fhir_server.core.version import Version
from fhir_server.errors import NotFound, TooCostly
from fhir_server.interactions import update
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_resource
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import check_present, read
from fhir_server.store.protocol import Transaction

Change = Callable[[list[Any], list[Any]], list[Any]]

_LISTS = ("profile", "security", "tag")
_PAGE = 1_000
_MOST = 20_000
_SECONDS = 10.0


async def meta(ctx: Context, call: Invocation) -> bytes:
    """The `meta` of a resource; of a type or of all, what its resources have together.

    Raises:
        NotFound, Gone: there is no such resource.
        TooCostly: too many have one.
    """
    call.inputs.check_known()
    if call.resource_id is not None:
        version = await read(ctx, _key(call))
        return _answer(version.resource().get("meta", {}))
    types = sorted(ctx.validator.resource_types)
    found = await _together(ctx, types if call.resource_type is None else (call.resource_type,))
    return _answer({name: each for name, each in found.items() if each})


async def _together(ctx: Context, types: Iterable[str]) -> dict[str, list[Any]]:
    """What all resources of `types` have in their `meta`, once each."""
    together: dict[str, dict[tuple[str, str], Any]] = {name: {} for name in _LISTS}
    looked_at = 0
    # Each search has an end of its own, but there is one for every type.
    until = monotonic() + _SECONDS
    for resource_type in types:
        query: Query | None = _having_meta(ctx, resource_type)
        while query is not None:
            page = await ctx.store.search(query)
            looked_at += len(page.versions)
            if monotonic() > until:
                raise TooCostly("it takes too long: ask for one type")
            if looked_at > _MOST:
                raise TooCostly(f"more than {_MOST} resources have profiles, tags or labels")
            for version in page.versions:
                own = version.resource().get("meta", {})
                for name, known in together.items():
                    for each in own.get(name, []):
                        known.setdefault(_identity(each), each)
            query = page.next and query._replace(after=page.next, as_of=page.as_of)
    return {name: list(known.values()) for name, known in together.items()}


async def meta_add(ctx: Context, call: Invocation) -> bytes:
    """Add what the input `meta` has to the resource; what is there already changes nothing.

    Raises:
        NotFound, Gone: there is no such resource.
        InvalidRequest: there is no `meta`.
    """
    return await _change(ctx, call, _add)


async def meta_delete(ctx: Context, call: Invocation) -> bytes:
    """Take what the input `meta` has from the resource; raises as `meta_add` does."""
    return await _change(ctx, call, _remove)


async def _change(ctx: Context, call: Invocation, change: Change) -> bytes:
    call.inputs.check_known("meta")
    given = call.inputs.objects("meta")
    if len(given) != 1:
        raise fault("one meta is expected", "meta", code="required")
    key = _key(call)

    def decide(tx: Transaction) -> Version:
        current = tx.read(key)
        if current is None:
            raise NotFound(f"{key} is not known")
        resource = check_present(current).resource()
        changed = _changed(resource, given[0], change)
        check_resource(ctx, changed)
        written = update.decide(key, changed)(tx)
        assert written.version is not None
        return written.version

    version = await ctx.store.commit(decide)
    return _answer(version.resource().get("meta", {}))


def _changed(resource: Resource, given: Resource, change: Change) -> Resource:
    own = dict(resource.get("meta", {}))
    for name in _LISTS:
        listed = given.get(name, [])
        if not isinstance(listed, list):
            raise fault("must be a list", f"meta.{name}", code="structure")
        kept = change(own.pop(name, []), listed)
        if kept:
            own[name] = kept
    return {**resource, "meta": own}


def _add(own: list[Any], given: Iterable[Any]) -> list[Any]:
    identities = {_identity(each) for each in own}
    added = list(own)
    for each in given:
        if _identity(each) not in identities:
            identities.add(_identity(each))
            added.append(each)
    return added


def _remove(own: list[Any], given: Iterable[Any]) -> list[Any]:
    unwanted = {_identity(each) for each in given}
    return [each for each in own if _identity(each) not in unwanted]


def _identity(value: Any) -> tuple[str, str]:
    """A tag and a label are told by system and code, a profile by its URL."""
    if isinstance(value, dict):
        return str(value.get("system", "")), str(value.get("code", ""))
    return "", str(value)


def _having_meta(ctx: Context, resource_type: str) -> Query:
    criteria = tuple(_criteria(ctx, resource_type))
    return Query(
        resource_type, (AnyOf(criteria),), count=_PAGE, restriction=ctx.principal.restriction
    )


def _criteria(ctx: Context, resource_type: str) -> Iterator[Any]:
    for code in _LISTS:
        yield from parse_criteria(
            resource_type,
            ((f"_{code}:missing", "false"),),
            ctx.parameters,
            base_url=ctx.base_url,
            time_zone=ctx.time_zone,
            now=ctx.now(),
        )


def _key(call: Invocation) -> ResourceKey:
    return ResourceKey(call.resource_type or "", call.resource_id or "")


def _answer(found: Resource) -> bytes:
    parameter = {"name": "return", "valueMeta": found}
    return resource_json.format({"resourceType": "Parameters", "parameter": [parameter]})
