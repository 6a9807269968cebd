"""Clauses as filters of MongoDB: the condition of one search parameter.

Filters are built of fixed field names and operators; what a client sent stands only where
MongoDB expects a value, so no text of a request can become an operator.
https://hl7.org/fhir/R4/search.html
"""

import re
from collections.abc import Sequence

from fhir_server.core.search.compare import uri_below
from fhir_server.core.search.parameter import SearchParameter, SearchType, Source
from fhir_server.core.search.query import (
    Clause,
    CompositeValue,
    DateValue,
    MissingValue,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
    Value,
)
from fhir_server.errors import InvalidSearch
from fhir_server.store.mongo import comparisons, composites, keys
from fhir_server.store.mongo.steps import Filter

NOTHING: Filter = {"_id": {"$lt": 0}}
_TWO_PARTS = "\\A[^\x1f]*\x1f[^\x1f]*\x1f"


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
    if found.modifier == "unequal":
        return any_of([_other(s.code, found.values) for s in found.parameter.sources])
    positive = _values(found.parameter, found.modifier, found.values)
    return {"$nor": [positive]} if found.modifier == "not" else positive


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
                if modifier == "below":
                    others += [_begins(keys.pair(code, uri_below(uri), "")[:-1]) for code in codes]
            case TextValue(word, is_prefix):
                for code in codes:
                    key = keys.pair(code, word, "")
                    if is_prefix:
                        others.append(_begins(key[:-1]))
                    else:
                        exact[key] = None
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
            return NOTHING
        part = parameter._replace(code=component.code, sources=(Source(component.code),))
        condition = _values(part, "", (value,))
        if condition == NOTHING:
            return NOTHING
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


def _begins(prefix: str) -> Filter:
    return {"x": {"$elemMatch": keys.starting_with(prefix)}}


def _other(parameter: str, values: Sequence[Value]) -> Filter:
    """What has a code, or a string, that is none of `values`."""
    folded = [value.folded for value in values if isinstance(value, StringValue)]
    if folded:
        return {"st": {"$elemMatch": {"p": parameter, "f": {"$nin": folded}}}}
    exact: list[str] = []
    patterns: list[str] = []
    for value in values:
        match value:
            case TokenValue(None, str(code)):
                patterns.append(f"\\A{re.escape(keys.pair(parameter, code, ''))}")
            case TokenValue(str(system), None):
                patterns.append(f"\x1f{re.escape(keys.escape(system))}\\z")
            case TokenValue(str(system), str(code)):
                exact.append(keys.pair(parameter, code, system))
    asked: Filter = {**keys.all_of(parameter), "$nin": exact}
    if patterns:
        asked["$not"] = {"$regex": "|".join(patterns)}
    return {"x": {"$elemMatch": asked}}


def _string(parameter: str, modifier: str, value: StringValue) -> Filter:
    match modifier:
        case "text":
            begins = keys.starting_with(value.folded)
            return {"tt": {"$elemMatch": {"p": parameter, "t": begins}}}
        case "exact":
            return {
                "$and": [
                    {"x": keys.string(parameter, value.folded)},
                    {"st": {"$elemMatch": {"p": parameter, "w": value.exact}}},
                ]
            }
        case "equal":
            return {
                "$and": [
                    {"x": keys.string(parameter, value.folded)},
                    {"st": {"$elemMatch": {"p": parameter, "f": value.folded}}},
                ]
            }
        case "contains" | "ends":
            end = "\\z" if modifier == "ends" else ""
            contained = {"$regex": re.escape(value.folded) + end}
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
        return NOTHING
    return parts[0] if len(parts) == 1 else {"$or": list(parts)}
