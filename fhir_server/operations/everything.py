"""$everything: a patient's record, page by page, with what its resources refer to.

The matches are the patient's compartment, in commit order or as `_sort` says. What they
refer to outside of any patient's compartment (a Device, a Practitioner) stands on their
page as `include`; other patients' resources never do.
https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fhir_server.core import reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.core.search.parameter import SearchType
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import AnyOf, Clause, Criterion, Query, TokenValue
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch
from fhir_server.interactions import paging
from fhir_server.interactions.compartment_search import belonging
from fhir_server.interactions.context import Context
from fhir_server.interactions.include import Included
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read
from fhir_server.interactions.search import search_within
from fhir_server.interactions.searched import Searched

_SINCE, _START, _END = "_since", "start", "end"

# When care was given, by the parameters that say it. What lasts (a condition, a goal) is
# part of the care in any stretch of time, whenever it began.
_CARE_DATES = ("date", "effective", "effective-time", "period", "authored", "authoredon", "sent")

# A Device refers to its owner, a PractitionerRole to a Practitioner and a Location.
_MOST_ROUNDS = 4


async def everything(ctx: Context, call: Invocation) -> bytes:
    """A page of the record, as a searchset.

    Raises:
        NotFound, Gone: there is no such patient, or the page's moment is kept no more.
        InvalidSearch: an input cannot be applied.
    """
    key = ResourceKey(call.resource_type or "", call.resource_id or "")
    params = call.inputs.params()
    if paging.PARAMETER not in dict(params):
        await read(ctx, key)
    members = ctx.compartments.resource_types(key.resource_type)
    searched = Searched(
        f"{key}/$everything",
        tuple(sorted(members)),
        is_open=True,
        within=lambda name, own: (*belonging(ctx, key, name), *_limits(ctx, name, own)),
        default_page_size=ctx.limits.page_size,
        own=frozenset((_SINCE, _START, _END)),
        beside=ctx.validator.resource_types - members,
    )
    return await search_within(
        ctx, searched, params, is_strict=call.is_strict, supplement=_supporting
    )


def _limits(ctx: Context, resource_type: str, own: Params) -> Iterator[Criterion]:
    """What `_since`, `start` and `end` say of a type."""
    for name, text in own:
        if name == _SINCE:
            yield _parse(ctx, resource_type, name, "_lastUpdated", f"ge{text}")
            continue
        code = _care_date(ctx, resource_type)
        if code is None:
            # The text is read nevertheless: a slip of the pen is one for every type.
            _parse(ctx, resource_type, name, "_lastUpdated", text)
            continue
        prefix = "ge" if name == _START else "le"
        within = _parse(ctx, resource_type, name, code, prefix + text)
        undated = _parse(ctx, resource_type, name, f"{code}:missing", "true")
        yield AnyOf((within, undated))


def _parse(ctx: Context, resource_type: str, name: str, code: str, text: str) -> Criterion:
    try:
        (criterion,) = parse_criteria(
            resource_type,
            ((code, text),),
            ctx.parameters,
            base_url=ctx.base_url,
            time_zone=ctx.time_zone,
            now=ctx.now(),
        )
    except InvalidSearch:
        raise InvalidSearch(f"{name}: expected a date or an instant") from None
    return criterion


def _care_date(ctx: Context, resource_type: str) -> str | None:
    for code in _CARE_DATES:
        parameter = ctx.parameters.get(resource_type, code)
        if parameter is not None and parameter.type is SearchType.DATE:
            return code
    return None


async def _supporting(
    ctx: Context, matches: Sequence[Version], as_of: int, params: Params
) -> Included:
    """What the matches refer to that is no patient's, as it was at their moment."""
    allowed = ctx.validator.resource_types - ctx.compartments.resource_types("Patient")
    named = {name for key, text in params if key == "_type" for name in text.split(",")}
    if named:
        allowed &= named
    seen: set[ResourceKey] = set()
    found: list[Version] = []
    fresh: Sequence[Version] = matches
    for _ in range(_MOST_ROUNDS):
        wanted = {key for key in _references(fresh) if key.resource_type in allowed} - seen
        if not wanted:
            break
        seen |= wanted
        room = ctx.limits.page_size - len(found)
        fresh = await _find(ctx, wanted, as_of, room + 1)
        if len(fresh) > room:
            return Included((*found, *fresh[:room]), is_complete=False)
        found += fresh
    return Included(tuple(found), is_complete=True)


async def _find(
    ctx: Context, keys: Iterable[ResourceKey], as_of: int, most: int
) -> Sequence[Version]:
    by_type: dict[str, list[str]] = {}
    for key in sorted(keys):
        by_type.setdefault(key.resource_type, []).append(key.resource_id)
    found: list[Version] = []
    for resource_type, ids in by_type.items():
        parameter = ctx.parameters.get(resource_type, "_id")
        if parameter is None or len(found) >= most:
            continue
        clause = Clause(parameter, "", tuple(TokenValue(None, each) for each in ids))
        query = Query(
            resource_type,
            (clause,),
            count=most - len(found),
            as_of=as_of,
            restriction=ctx.principal.restriction,
        )
        found += (await ctx.store.search(query)).versions
    return found


def _references(versions: Iterable[Version]) -> Iterator[ResourceKey]:
    for version in versions:
        for text in _texts(version.resource()):
            found = reference.parse(text)
            if found is not None and found.is_local:
                yield ResourceKey(found.resource_type, found.resource_id)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "reference" and isinstance(inner, str):
                yield inner
            elif isinstance(inner, dict | list):
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
