"""$expand: the codes of a value set, page by page.

https://hl7.org/fhir/R4/valueset-operation-expand.html. The codes are told one after the other
and only those of the page are kept, so a set may be as big as its code systems. It is flat,
as the published expansions are: what only groups others is left out.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from fhir_server.core.resource_json import Resource
from fhir_server.core.search.folding import fold
from fhir_server.core.terminology.value_set import Member, NotTold, Selection
from fhir_server.core.terminology.wording import designations, display, names
from fhir_server.core.version import format_instant
from fhir_server.errors import TooCostly

MOST_TOLD = 10_000

_LEFT_OUT = ("compose", "text", "expansion", "meta", "id")


class Wish(NamedTuple):
    """What of an expansion is wanted. `count` None: all of it."""

    text: str = ""
    offset: int = 0
    count: int | None = None  # type: ignore[assignment]  # FHIR's word
    with_designations: bool = False
    designations: tuple[str, ...] = ()
    active_only: bool = False
    with_definition: bool = False
    language: str | None = None
    left_out: frozenset[str] = frozenset()


def expand(
    value_set: Resource, selection: Selection, wish: Wish, identifier: str, now: datetime
) -> Resource:
    """The ValueSet with the part of its expansion that is wished.

    Raises:
        TooCostly: all is wished, and there are too many.
        NotTold: it needs codes that are not known here.
    """
    if selection.whole:
        raise NotTold("the value set has all codes of a system that is not all known here")
    most = MOST_TOLD if wish.count is None else min(wish.count, MOST_TOLD)
    total = 0
    shown: list[Any] = []
    versions: dict[str, None] = {}
    for member in _wished(selection, wish):
        if member.version:
            versions[f"{member.system}|{member.version}"] = None
        if wish.offset <= total < wish.offset + most:
            shown.append(_contains(member, wish))
        total += 1
        if wish.count is None and total - wish.offset > MOST_TOLD:
            raise TooCostly(
                f"the value set has more than {MOST_TOLD} codes: ask for it by count and offset"
            )
    kept = value_set if wish.with_definition else _outline(value_set)
    expansion: dict[str, Any] = {
        "identifier": identifier,
        "timestamp": format_instant(now),
        "total": total,
        "offset": wish.offset,
        "parameter": [*_told(wish), *({"name": "version", "valueUri": v} for v in versions)],
        "contains": shown,
    }
    if not expansion["parameter"]:
        del expansion["parameter"]
    if not shown:
        del expansion["contains"]
    return {**kept, "expansion": expansion}


def _wished(selection: Selection, wish: Wish) -> Iterator[Member]:
    words = fold(wish.text).split()
    for member in selection.members():
        concept = member.concept
        if member.system in wish.left_out:
            continue
        if wish.active_only and concept.is_inactive:
            continue
        if concept.is_abstract:
            continue
        if words:
            text = " ".join(fold(each) for each in (concept.code, *names(concept)))
            if not all(word in text for word in words):
                continue
        yield member


def _contains(member: Member, wish: Wish) -> dict[str, Any]:
    concept = member.concept
    found: dict[str, Any] = {"system": member.system}
    if concept.is_inactive:
        found["inactive"] = True
    if member.version:
        found["version"] = member.version
    found["code"] = concept.code
    called = display(concept, wish.language)
    if called:
        found["display"] = called
    if wish.with_designations or wish.designations:
        more = designations(concept, wish.designations)
        if more:
            found["designation"] = more
    return found


def _outline(value_set: Resource) -> Resource:
    return {name: each for name, each in value_set.items() if name not in _LEFT_OUT}


def _told(wish: Wish) -> Iterator[dict[str, Any]]:
    if wish.text:
        yield {"name": "filter", "valueString": wish.text}
    if wish.offset:
        yield {"name": "offset", "valueInteger": wish.offset}
    if wish.count is not None:
        yield {"name": "count", "valueInteger": wish.count}
    if wish.active_only:
        yield {"name": "activeOnly", "valueBoolean": True}
    if wish.language:
        yield {"name": "displayLanguage", "valueCode": wish.language}
