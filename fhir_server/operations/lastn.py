"""$lastn: the newest Observations of each kind of measurement.

Observations whose codes share a coding are of one kind, and so are those that a third one
joins. Of each kind the newest `max` are told, and more where the last of them have the same
time. Read newest first; a kind that is complete is not read any further.
https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fhir_server.core import bundle, resource_json
from fhir_server.core.bundle import Link, SearchEntry
from fhir_server.core.monitoring.views import is_derived
from fhir_server.core.operation_input import Inputs, fault
from fhir_server.core.outcome import operation_outcome
from fhir_server.core.query_string import Params
from fhir_server.core.search.folding import fold
from fhir_server.core.search.parameter import SearchParameter
from fhir_server.core.search.query import Clause, Query, SortKey, TokenValue
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch, Issue, TooCostly
from fhir_server.interactions import paging
from fhir_server.interactions.context import Context
from fhir_server.interactions.include import include
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.search import to_entries, to_part
from fhir_server.interactions.search_plan import read

_TYPE = "Observation"
_MOST_OF_A_KIND = 1_000
_PAGE = 500
_MOST_LOOKED_AT = 50_000
_SUBJECTS = frozenset(("patient", "subject"))
_OWN_ORDER = ("_sort", "_count", "_total")

# System and code, or "" and the folded text of a code that has no coding.
Coding = tuple[str | None, str]


class _Member(NamedTuple):
    place: int
    time: int | str | None
    version: Version


class _Kind:
    """Observations of one kind, newest first."""

    def __init__(self) -> None:
        self.codings: set[Coding] = set()
        self.members: list[_Member] = []

    def is_complete(self, most: int, time: int | str | None) -> bool:
        """Whether nothing of this `time`, or older, belongs to its newest `most`."""
        if len(self.members) < most:
            return False
        last = self.members[most - 1].time
        return last is None or last != time

    def newest(self, most: int) -> list[_Member]:
        members = sorted(self.members)
        if len(members) <= most:
            return members
        last = members[most - 1].time
        ties = [each for each in members[most:] if each.time == last and last is not None]
        return members[:most] + ties


async def lastn(ctx: Context, call: Invocation) -> bytes:
    """The newest Observations of each kind, as a searchset.

    Raises:
        InvalidSearch: there is no subject, neither a category nor a code, or an input
            cannot be applied.
        TooCostly: too many Observations would have to be looked at.
    """
    most = _parse_max(call.inputs)
    params = tuple(pair for pair in call.inputs.params() if pair[0] != "max")
    _check_criteria(params)
    ignored = [
        Issue("not-supported", f"{name}: $lastn has its own order and size", severity="warning")
        for name, _ in params
        if name in _OWN_ORDER
    ]
    if ignored and call.is_strict:
        raise InvalidSearch(issues=[issue._replace(severity="error") for issue in ignored])
    params = tuple(pair for pair in params if pair[0] not in _OWN_ORDER)
    parsed = read(ctx, _TYPE, params, ctx.now(), is_strict=call.is_strict)
    query = parsed.query._replace(
        sort=(SortKey(_parameter(ctx, "date"), descending=True),),
        count=_PAGE,
        restriction=ctx.principal.restriction,
    )
    kinds, as_of = await _collect(ctx, query, most)
    found = [member.version for kind in kinds for member in kind.newest(most)]
    shown = found if parsed.summary != "count" else []
    part = to_part(parsed.summary, parsed.elements)
    entries = to_entries(ctx, shown, "match", part)
    included = await include(ctx, shown, parsed.includes, as_of)
    entries += to_entries(ctx, included.versions, "include", part)
    issues = [*parsed.ignored, *ignored]
    if issues:
        outcome = resource_json.format(operation_outcome(issues))
        entries.append(SearchEntry(None, outcome, "outcome"))
    applied = (("max", str(most)), *parsed.applied)
    links = [Link("self", paging.url(ctx, f"{_TYPE}/$lastn", applied))]
    return bundle.searchset(ctx.base_url, entries, links=links, total=len(found), now=ctx.now())


def _parse_max(inputs: Inputs) -> int:
    text = inputs.text("max")
    if text is None:
        return 1
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MOST_OF_A_KIND:
        raise fault(f"a whole number from 1 to {_MOST_OF_A_KIND}", "max", code="value")
    return int(text)


def _check_criteria(params: Params) -> None:
    names = {name.partition(":")[0].partition(".")[0] for name, _ in params}
    if names.isdisjoint(_SUBJECTS):
        raise InvalidSearch("$lastn is about one subject: patient or subject is missing")
    if "category" not in names and not any("code" in name for name in names):
        raise InvalidSearch("$lastn needs a category or a code")


def _parameter(ctx: Context, code: str) -> SearchParameter:
    parameter = ctx.parameters.get(_TYPE, code)
    assert parameter is not None
    return parameter


async def _collect(ctx: Context, query: Query, most: int) -> tuple[list[_Kind], int]:
    """The kinds in the order of their newest members, and the moment they are of."""
    code = _parameter(ctx, "code")
    by_coding: dict[Coding, _Kind] = {}
    asked = query.criteria
    looked_at = 0
    while True:
        page = await ctx.store.search(query)
        for cursor, version in zip(page.cursors, page.versions, strict=True):
            looked_at += 1
            resource = version.resource()
            if is_derived(resource):
                # Computed by the server: the last that was measured is what is asked for.
                continue
            kind = _kind_of(_codings(resource.get("code")), by_coding)
            time = cursor.values[0]
            if not kind.is_complete(most, time):
                kind.members.append(_Member(looked_at, time, version))
        if page.next is None:
            kinds = list({id(kind): kind for kind in by_coding.values()}.values())
            return sorted(kinds, key=lambda kind: kind.members[0].place), page.as_of
        if looked_at >= _MOST_LOOKED_AT:
            raise TooCostly("too many Observations of too many kinds: ask for fewer")
        complete = _complete(by_coding.values(), most, page.next.values[0])
        criteria = (*asked, Clause(code, "not", complete)) if complete else asked
        query = query._replace(criteria=criteria, after=page.next, as_of=page.as_of)


def _complete(kinds: Iterable[_Kind], most: int, time: int | str | None) -> tuple[TokenValue, ...]:
    """The codings of the kinds that need no more members."""
    return tuple(
        dict.fromkeys(
            TokenValue(system, code)
            for kind in kinds
            if kind.is_complete(most, time)
            for system, code in kind.codings
            if system is not None
        )
    )


def _kind_of(codings: Sequence[Coding], by_coding: dict[Coding, _Kind]) -> _Kind:
    """The one kind of all that has one of these codings; kinds that meet become one."""
    known = list({id(k): k for each in codings if (k := by_coding.get(each))}.values())
    kind = known[0] if known else _Kind()
    for other in known[1:]:
        kind.codings |= other.codings
        kind.members = sorted(kind.members + other.members)
    kind.codings.update(codings)
    for each in kind.codings:
        by_coding[each] = kind
    return kind


def _codings(concept: Any) -> tuple[Coding, ...]:
    """The codings of a CodeableConcept; of one that has none, its text stands for it."""
    found = tuple(
        (coding.get("system") or "", coding["code"])
        for coding in concept.get("coding", ())
        if coding.get("code")
    )
    return found or ((None, fold(concept.get("text") or "")),)
