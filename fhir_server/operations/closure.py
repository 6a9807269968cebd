"""$closure: the closure table of a client, by name, versioned and resumable.

https://hl7.org/fhir/R4/conceptmap-operation-closure.html. The table is a stored ConceptMap
(`core.terminology.closure`): any process adds to it, and a client that lost an answer asks
for what is new since the version that it has.
"""

from collections.abc import Iterable, Mapping
from functools import partial

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.operation_input import fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology import closure
from fhir_server.core.terminology.closure import Table
from fhir_server.core.terminology.coding import Asked, read_coding
from fhir_server.core.version import is_same_content, next_version
from fhir_server.errors import NotFound, TooCostly, VersionConflict
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.terminology import with_terminology_aside
from fhir_server.operations.terminology_call import read_number
from fhir_server.store.protocol import Decision, Transaction

Code = tuple[str, str]

_MOST_CODES = 5_000
_TRIES = 20
_LONGEST_NAME = 200


async def keep_closure(ctx: Context, call: Invocation) -> bytes:
    """What the codes of this call add to the closure; without codes it begins anew.

    Raises:
        NotFound: it has no such version, or a code is not known.
        TooCostly: it holds too many codes.
    """
    inputs = call.inputs
    inputs.check_known("name", "concept", "version", "_format")
    name, since = inputs.text("name"), read_number(inputs, "version")
    if not name or len(name) > _LONGEST_NAME:
        raise fault(f"a name of 1 to {_LONGEST_NAME} characters", "name", code="required")
    asked = [read_coding(each, "concept") for each in inputs.objects("concept")]
    if any(not each.system for each in asked):
        raise fault("a Coding with a system is needed", "concept", code="required")
    if since is not None:
        if asked:
            raise fault("goes without concepts: it asks for what was added before", "version")
        return await _replay(ctx, name, since)
    return await _add(ctx, name, asked)


async def _add(ctx: Context, name: str, asked: list[Asked]) -> bytes:
    key = ResourceKey("ConceptMap", closure.closure_id(name))
    for _ in range(_TRIES):
        current = await ctx.store.read(key)
        known = closure.read_table(current.resource() if current and current.body else None)
        wanted = known.codes | {(each.system, each.code) for each in asked}
        # Outside of the commit: what stands above a code may have to be looked for.
        above = await with_terminology_aside(ctx, partial(_above, wanted))
        found = await ctx.store.commit(_decision(key, name, asked, above))
        if found is not None:
            return resource_json.format(found)
    raise VersionConflict("others add to this closure at the same time: try again")


def _decision(
    key: ResourceKey, name: str, asked: list[Asked], above: Mapping[Code, frozenset[str]]
) -> Decision[Resource | None]:
    """None: another process added codes of which `above` says nothing."""

    def decide(tx: Transaction) -> Resource | None:
        current = tx.read(key)
        stored = current.resource() if current and current.body else None
        before = closure.read_table(stored)
        after = Table()
        if asked:
            if not before.codes <= above.keys():
                return None
            after = closure.add(before, asked, lambda system, code: above[system, code])
        if len(after.codes) > _MOST_CODES:
            raise TooCostly(f"a closure holds at most {_MOST_CODES} codes")
        resource = closure.format_table(after, name, key.resource_id)
        if current is None or not is_same_content(current, resource):
            current, put = next_version(current, key, resource, tx.now)
            tx.put(current, put)
        base = before if asked else after
        return closure.format_difference(base, after, name, str(current.version_id))

    return decide


async def _replay(ctx: Context, name: str, since: int) -> bytes:
    key = ResourceKey("ConceptMap", closure.closure_id(name))
    current = await ctx.store.read(key)
    before = await ctx.store.vread(key, since)
    if current is None or before is None:
        raise NotFound("this closure has no such version")
    old, new = (closure.read_table(v.resource() if v.body else None) for v in (before, current))
    version = str(current.version_id)
    return resource_json.format(closure.format_difference(old, new, name, version))


def _above(codes: Iterable[Code], ctx: Context) -> dict[Code, frozenset[str]]:
    found: dict[Code, frozenset[str]] = {}
    for system, code in sorted(codes):
        known = ctx.terminology.find(system)
        if known is None or known.find(code) is None:
            raise NotFound(f"{system} has no code {code}, as far as it is known here")
        found[system, code] = known.above(code)
    return found
