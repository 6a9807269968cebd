"""Criteria as filters of MongoDB.

Filters are built of fixed field names and operators; what a client sent stands only where
MongoDB expects a value, so no text of a request can become an operator.
https://hl7.org/fhir/R4/search.html
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.search.parameter import SearchParameter, SearchType, Source
from fhir_server.core.search.query import (
    AnyOf,
    Chain,
    Clause,
    CompositeValue,
    Criterion,
    DateValue,
    Has,
    MissingValue,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    Restriction,
    StringValue,
    TokenValue,
    UriValue,
    Value,
)
from fhir_server.errors import InvalidSearch, TooCostly
from fhir_server.store.mongo import comparisons, composites, keys, reads, selectivity
from fhir_server.store.mongo.steps import Aggregate, Filter, Find, Steps

MAX_REFERRED = 20_000
"""How many resources a chain or `_has` may go through."""

_NOTHING: Filter = {"_id": {"$lt": 0}}
_TWO_PARTS = "\\A[^\x1f]*\x1f[^\x1f]*\x1f"


class Scope(NamedTuple):
    """The moment a search is bound to, and what the principal may see."""

    as_of: int
    restriction: Restriction

    def visible(self, resource_type: str) -> Filter:
        """Versions of the type that were current then."""
        return {
            "y": resource_type,
            "_id": {"$lte": self.as_of},
            "s": {"$gt": self.as_of},
            "i": {"$ne": "d"},
        }

    def restrictions(self, resource_type: str) -> tuple[Criterion, ...]:
        return tuple(
            criterion
            for restricted, criteria in self.restriction.by_type
            if restricted == resource_type
            for criterion in criteria
        )


def matching(resource_type: str, criteria: Sequence[Criterion], scope: Scope) -> Steps[Filter]:
    """What of `resource_type` meets all `criteria` and may be seen; its `$and` is never empty.

    Where one criterion surely finds few, the index is to be asked for that one alone.
    Else the database tries the candidates and sees for itself.
    """
    conditions: list[Filter] = []
    ranks: list[int] = []
    for criterion in (*criteria, *scope.restrictions(resource_type)):
        conditions.append((yield from _criterion(criterion, scope)))
        ranks.append(selectivity.rank(criterion))
    filter_ = scope.visible(resource_type)
    best = min(ranks, default=selectivity.UNKNOWN)
    if best < selectivity.UNKNOWN:
        driver = ranks.index(best)
        conditions = [
            condition if number == driver else selectivity.not_by_index(condition)
            for number, condition in enumerate(conditions)
        ]
    elif not any(map(selectivity.is_driver, conditions)):
        conditions.insert(0, {"x": keys.MARKER})
    filter_["$and"] = conditions
    return filter_


def _criterion(criterion: Criterion, scope: Scope) -> Steps[Filter]:
    match criterion:
        case Clause(parameter, "", values) if parameter.code == "_lastUpdated":
            return (yield from _last_updated(values, scope))
        case Clause():
            return clause(criterion)
        case Chain():
            return (yield from _chain(criterion, scope))
        case Has():
            return (yield from _has(criterion, scope))
        case AnyOf(criteria):
            parts: list[Filter] = []
            for part in criteria:
                parts.append((yield from _criterion(part, scope)))
            return any_of(parts)
    raise AssertionError(criterion)


def _chain(chain: Chain, scope: Scope) -> Steps[Filter]:
    filter_ = yield from matching(chain.resource_type, (chain.criterion,), scope)
    found = yield Find(filter_, {"k": 1, "_id": 0}, limit=MAX_REFERRED + 1)
    _check_count(len(found))
    wanted = [
        keys.pair(source.code, document["k"], chain.resource_type)
        for source in chain.parameter.sources
        if source.target in (None, chain.resource_type)
        for document in found
    ]
    return {"x": {"$in": wanted}} if wanted else _NOTHING


def _has(has: Has, scope: Scope) -> Steps[Filter]:
    """The ids that the matching resources refer to, of whichever type is asked for."""
    filter_ = yield from matching(has.parameter.resource_type, (has.criterion,), scope)
    bounds = [keys.all_of(source.code) for source in has.parameter.sources]
    is_reference = {
        "$or": [
            {"$and": [{"$gte": ["$$key", b["$gte"]]}, {"$lt": ["$$key", b["$lt"]]}]} for b in bounds
        ]
    }
    found = yield Aggregate(
        [
            {"$match": filter_},
            {"$project": {"x": {"$filter": {"input": "$x", "as": "key", "cond": is_reference}}}},
            {"$unwind": "$x"},
            {"$group": {"_id": "$x"}},
            {"$limit": MAX_REFERRED + 1},
        ]
    )
    _check_count(len(found))
    referred: dict[str, list[str]] = {}
    targets = {source.code: source.target for source in has.parameter.sources}
    for document in found:
        parts = document["_id"].split(keys.SEPARATOR)
        code, resource_id, resource_type = parts[:3]
        if resource_type and targets[code] in (None, resource_type):
            referred.setdefault(resource_type, []).append(resource_id)
    # The outer search names its type; ids of others do no harm, for `y` is fixed there,
    # but the same id may stand under two types.
    return any_of([{"y": t, "k": {"$in": ids}} for t, ids in referred.items()])


def _check_count(count: int) -> None:
    if count > MAX_REFERRED:
        raise TooCostly("a chain goes through too many resources; name more of what is wanted")


def clause(found: Clause) -> Filter:
    """The condition of one search parameter."""
    if found.parameter.code == "_id" and found.modifier != "missing":
        return _id(found)
    if found.modifier == "missing":
        present = (
            {"x": keys.MARKER}
            if found.parameter.code in ("_id", "_lastUpdated")
            else _is_present(found.parameter)
        )
        missing = any(isinstance(v, MissingValue) and v.is_missing for v in found.values)
        return {"$nor": [present]} if missing else present
    positive = _values(found.parameter, found.modifier, found.values)
    return {"$nor": [positive]} if found.modifier == "not" else positive


def _last_updated(values: Sequence[Value], scope: Scope) -> Steps[Filter]:
    parts: list[Filter] = []
    for value in values:
        if isinstance(value, DateValue):
            part = comparisons.last_updated(value.prefix, value.range)
            if "u" in part:
                sequences = yield from reads.sequences_of(part["u"], scope.as_of)
                part = {"_id": sequences, **part}
            parts.append(part)
    return any_of(parts)


def _id(found: Clause) -> Filter:
    ids = [
        value.code
        for value in found.values
        if isinstance(value, TokenValue) and not value.system and value.code is not None
    ]
    return {"k": {"$nin" if found.modifier == "not" else "$in": ids}}


def _is_present(parameter: SearchParameter) -> Filter:
    parts: list[Filter] = []
    for source in parameter.sources:
        bounds: Filter = dict(keys.all_of(source.code))
        if source.target is not None:
            bounds["$regex"] = f"{_TWO_PARTS}{re.escape(source.target)}(\x1f|\\z)"
        parts.append({"x": {"$elemMatch": bounds}})
        match parameter.type:
            case SearchType.DATE | SearchType.NUMBER | SearchType.QUANTITY:
                parts.append({"x": {"$elemMatch": keys.all_of(source.code + keys.WIDE)}})
            case SearchType.REFERENCE:
                parts.append({"x": {"$elemMatch": keys.all_of(source.code + ":identifier")}})
    return any_of(parts)


def _values(parameter: SearchParameter, modifier: str, values: Sequence[Value]) -> Filter:
    exact: dict[str, None] = {}
    others: list[Filter] = []
    suffix = ":identifier" if modifier == "identifier" else ""
    sources = tuple(Source(s.code + suffix, s.target) for s in parameter.sources)
    codes = [source.code for source in sources]
    for value in values:
        match value:
            case TokenValue():
                for code in codes:
                    _token(code, value, exact, others)
            case ReferenceValue():
                for source in sources:
                    _reference(source, value, exact, others)
            case UriValue(uri):
                exact.update((keys.pair(code, uri, ""), None) for code in codes)
            case StringValue():
                others += [_string(code, modifier, value) for code in codes]
            case DateValue():
                condition = dates_match(codes, (value,))
                others.append(_driven(condition, comparisons.date_keys(codes, value)))
            case NumberValue():
                condition = {
                    "q": {"$elemMatch": {"p": {"$in": codes}, **comparisons.number(value)}}
                }
                others.append(_driven(condition, comparisons.amount_keys(codes, "", value)))
            case QuantityValue():
                condition = {
                    "q": {"$elemMatch": {"p": {"$in": codes}, **comparisons.quantity(value)}}
                }
                number = value.canonical or value.number
                driver = comparisons.amount_keys(codes, value.canonical_code, number)
                others.append(_driven(condition, driver))
            case CompositeValue(parts):
                others.append(_composite(parameter, parts))
            case MissingValue():
                raise InvalidSearch(f"{parameter.code}: expected no value of :missing")
    if exact:
        wanted = list(exact)
        others.insert(0, {"x": wanted[0] if len(wanted) == 1 else {"$in": wanted}})
    return any_of(others)


def _composite(parameter: SearchParameter, values: Sequence[Value]) -> Filter:
    conditions: list[Filter] = []
    within: list[tuple[str, Value, Filter]] = []
    for component, value in zip(parameter.components, values, strict=True):
        if not component.code:
            return _NOTHING
        part = parameter._replace(code=component.code, sources=(Source(component.code),))
        condition = _values(part, "", (value,))
        if condition == _NOTHING:
            return _NOTHING
        conditions.append(condition)
        if not component.is_of_resource:
            within.append((component.code, value, condition))
    return {"$and": [*conditions, composites.share_an_element(within)]}


def dates_match(codes: Sequence[str], values: Sequence[Value]) -> Filter:
    """What has a date, of one of these parameters, that any of the values asks for."""
    return any_of(
        [
            {"d": {"$elemMatch": {"p": {"$in": list(codes)}, **comparisons.date(value)}}}
            for value in values
            if isinstance(value, DateValue)
        ]
    )


def _driven(condition: Filter, driver: list[Filter]) -> Filter:
    if not driver:
        return condition
    return {"$and": [any_of(driver), condition]}


def _token(parameter: str, value: TokenValue, exact: dict[str, None], others: list[Filter]) -> None:
    system, code = value
    if code is None and system is None:
        others.append({"x": {"$elemMatch": keys.all_of(parameter)}})
    elif code is None:
        # `\z` and not `$`, which also stands before a last line break.
        ends = f"\x1f{re.escape(keys.escape(system or ''))}\\z"
        others.append({"x": {"$elemMatch": {**keys.all_of(parameter), "$regex": ends}}})
    elif system is None:
        prefix = keys.pair(parameter, code, "")
        others.append({"x": {"$elemMatch": keys.starting_with(prefix)}})
    else:
        exact[keys.pair(parameter, code, system)] = None


def _reference(
    source: Source,
    value: ReferenceValue,
    exact: dict[str, None],
    others: list[Filter],
) -> None:
    if value.url is not None:
        if source.target is None:
            exact[_versioned(keys.pair(source.code, value.url, ""), value.version)] = None
        return
    if value.resource_id is None:
        return
    if value.resource_type is not None:
        if source.target in (None, value.resource_type):
            key = keys.pair(source.code, value.resource_id, value.resource_type)
            exact[_versioned(key, value.version)] = None
        return
    if source.target is not None:
        key = keys.pair(source.code, value.resource_id, source.target)
        exact[_versioned(key, value.version)] = None
        return
    prefix = keys.pair(source.code, value.resource_id, "")
    # A type is never empty, a URL's is: that is no id.
    bounds: Filter = {**keys.starting_with(prefix), "$gt": prefix}
    del bounds["$gte"]
    if value.version:
        bounds["$regex"] = f"{_TWO_PARTS}[^\x1f]+\x1f{re.escape(keys.escape(value.version))}\\z"
    others.append({"x": {"$elemMatch": bounds}})


def _versioned(key: str, version: str | None) -> str:
    return f"{key}\x1f{keys.escape(version)}" if version else key


def _string(parameter: str, modifier: str, value: StringValue) -> Filter:
    match modifier:
        case "text":
            begins = keys.starting_with(value.folded)
            return {"tt": {"$elemMatch": {"p": parameter, "t": begins}}}
        case "exact":
            return {
                "$and": [
                    {"x": keys.string(parameter, value.folded)},
                    {"st": {"$elemMatch": {"p": parameter, "e": value.exact}}},
                ]
            }
        case "contains":
            contained = {"$regex": re.escape(value.folded)}
            return {
                "$and": [
                    {"x": {"$elemMatch": keys.all_of(parameter)}},
                    {"st": {"$elemMatch": {"p": parameter, "f": contained}}},
                ]
            }
        case _:
            bounds = keys.starting_with(keys.string(parameter, value.folded))
            found: Filter = {"x": {"$elemMatch": bounds}}
            if len(value.folded) < keys.STRING_PREFIX:
                return found
            rest = {"p": parameter, "f": keys.starting_with(value.folded)}
            return {"$and": [found, {"st": {"$elemMatch": rest}}]}


def any_of(parts: Sequence[Filter]) -> Filter:
    if not parts:
        return _NOTHING
    return parts[0] if len(parts) == 1 else {"$or": list(parts)}
