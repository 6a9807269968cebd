"""$translate: what a concept map says a code is in another code system.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html. A target without a code says that
nothing there means the same, or that it was not found; its comment says which.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fhir_server.core.operation_output import Parameter, parameters, parts, value
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.coding import Asked
from fhir_server.errors import InvalidSearch

_NO_MATCH = frozenset({"unmatched", "disjoint"})
_BACK = {
    "wider": "narrower",
    "narrower": "wider",
    "subsumes": "specializes",
    "specializes": "subsumes",
}
_DEEPEST = 10

FindMap = Callable[[str], Resource]


class Wanted(NamedTuple):
    """Which translations: `target` and `source` are value sets as the maps name them."""

    target_system: str | None = None
    target: str | None = None
    source: str | None = None
    is_reverse: bool = False


class Match(NamedTuple):
    """One thing that a map says; without a coding it says that there is none."""

    equivalence: str
    coding: dict[str, Any] | None
    comment: str | None
    source: str | None
    product: tuple[dict[str, Any], ...] = ()


def translate(
    maps: Iterable[Resource], asked: Iterable[Asked], wanted: Wanted, other: FindMap
) -> Resource:
    """What the maps say of these codings; `other` gives the maps that one refers to.

    Raises:
        NotLoaded, Unknown: a map is referred to that is not there.
    """
    codings = list(asked)
    found: dict[tuple[Any, ...], Match] = {}
    for each in maps:
        if wanted.is_reverse or _is_about(each, wanted):
            for coding in codings:
                for match in _matches(each, coding, wanted, other, 0):
                    code = match.coding or {}
                    key = (match.equivalence, code.get("system"), code.get("code"), match.source)
                    found.setdefault(key, match)
    is_translated = any(m.coding and m.equivalence not in _NO_MATCH for m in found.values())
    comments = [m.comment for m in found.values() if m.comment and not m.coding]
    message = comments[0] if comments else None if is_translated else "no translation is known"
    return parameters(
        value("result", "Boolean", is_translated),
        value("message", "String", message),
        *(_match(each) for each in found.values()),
    )


def _is_about(concept_map: Resource, wanted: Wanted) -> bool:
    for name, asked in (("target", wanted.target), ("source", wanted.source)):
        said = concept_map.get(f"{name}Uri") or concept_map.get(f"{name}Canonical")
        if asked is not None and said is not None and said.partition("|")[0] != asked:
            return False
    return True


def _matches(
    concept_map: Resource, asked: Asked, wanted: Wanted, other: FindMap, depth: int
) -> Iterator[Match]:
    if depth > _DEEPEST:
        raise InvalidSearch("the concept map refers to itself")
    url = concept_map.get("url")
    for group in concept_map.get("group") or ():
        source, target = group.get("source"), group.get("target")
        if wanted.is_reverse:
            source, target = target, source
        if asked.system and source != asked.system:
            continue
        if wanted.target_system not in (None, target):
            continue
        if wanted.is_reverse:
            yield from _reversed(group, asked, url)
            continue
        mapped = [e for e in group.get("element") or () if e.get("code") == asked.code]
        for element in mapped:
            for each in element.get("target") or ():
                yield _forward(each, target, group.get("targetVersion"), url)
        if not mapped:
            yield from _unmapped(group, asked, wanted, other, url, depth)


def _forward(said: Any, system: str | None, version: str | None, url: str | None) -> Match:
    coding = None
    if said.get("code"):
        found = {"system": system, "version": version, "code": said["code"]}
        found["display"] = said.get("display")
        coding = {name: each for name, each in found.items() if each is not None}
    product = tuple(
        {
            "element": each.get("property"),
            "concept": {
                name: text
                for name, text in (
                    ("system", each.get("system")),
                    ("code", each.get("value")),
                    ("display", each.get("display")),
                )
                if text is not None
            },
        }
        for each in said.get("product") or ()
    )
    return Match(said.get("equivalence", "equivalent"), coding, said.get("comment"), url, product)


def _reversed(group: Any, asked: Asked, url: str | None) -> Iterator[Match]:
    for element in group.get("element") or ():
        for said in element.get("target") or ():
            if said.get("code") != asked.code or said.get("equivalence") in _NO_MATCH:
                continue
            equivalence = said.get("equivalence", "equivalent")
            back = {**element, "equivalence": _BACK.get(equivalence, equivalence)}
            yield _forward(
                {**back, "comment": said.get("comment")},
                group.get("source"),
                group.get("sourceVersion"),
                url,
            )


def _unmapped(
    group: Any, asked: Asked, wanted: Wanted, other: FindMap, url: str | None, depth: int
) -> Iterator[Match]:
    unmapped = group.get("unmapped") or {}
    mode = unmapped.get("mode")
    if mode == "provided":
        yield _forward({"code": asked.code, "equivalence": "equal"}, group.get("target"), None, url)
    elif mode == "fixed":
        fixed = {"code": unmapped.get("code"), "display": unmapped.get("display")}
        yield _forward({**fixed, "equivalence": "inexact"}, group.get("target"), None, url)
    elif mode == "other-map" and unmapped.get("url"):
        yield from _matches(other(unmapped["url"]), asked, wanted, other, depth + 1)


def _match(match: Match) -> Parameter:
    return parts(
        "match",
        [
            value("equivalence", "Code", match.equivalence),
            value("concept", "Coding", match.coding),
            *(
                parts(
                    "product",
                    [
                        value("element", "Uri", each["element"]),
                        value("concept", "Coding", each["concept"]),
                    ],
                )
                for each in match.product
            ),
            value("source", "Uri", match.source),
        ],
    )
