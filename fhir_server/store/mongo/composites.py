"""Composite parameters: parts that must match within one element.

That each part matches somewhere is asked of the index; that one element has them all is
computed from the few that are left. https://hl7.org/fhir/R4/search.html#composite
"""

from typing import Any

from fhir_server.core.search.query import (
    DateValue,
    NumberValue,
    QuantityValue,
    StringValue,
    Value,
)
from fhir_server.store.mongo import comparisons, keys
from fhir_server.store.mongo.steps import Document, Filter


def share_an_element(parts: list[tuple[str, Value, Filter]]) -> Filter:
    """True where one element has all of `parts`: parameter, value, what the index is asked."""
    sets = [_elements(code, value, filter_) for code, value, filter_ in parts]
    return {"$expr": {"$gt": [{"$size": {"$setIntersection": sets}}, 0]}}


def _elements(code: str, value: Value, filter_: Filter) -> Document:
    """The elements in which the part matches."""
    belongs: Document = {"$eq": ["$$this.p", {"$literal": code}]}
    match value:
        case DateValue():
            return _chosen("$d", [belongs, expression(comparisons.date(value), "$$this")])
        case NumberValue():
            return _chosen("$q", [belongs, expression(comparisons.number(value), "$$this")])
        case QuantityValue():
            return _chosen("$q", [belongs, expression(comparisons.quantity(value), "$$this")])
        case StringValue(folded):
            begins = expression({"f": keys.starting_with(folded)}, "$$this")
            return _chosen("$st", [belongs, begins])
        case _:
            # Codes, references and URIs stand in `c` where they repeat, else they are of
            # element 0 and the index has said already that they match.
            repeated: Document = {"$in": [{"$literal": code}, {"$ifNull": ["$c.p", []]}]}
            matching = _chosen("$c", [belongs, expression({"k": _of_key(filter_)}, "$$this")])
            return {"$cond": [repeated, matching, [0]]}


def _of_key(filter_: Filter) -> Any:
    """What a filter asks of an index key, asked of `k`."""
    asked = filter_["x"]
    return asked.get("$elemMatch", asked) if isinstance(asked, dict) else asked


def _chosen(array: str, conditions: list[Document]) -> Document:
    chosen: Document = {
        "$filter": {
            "input": {"$ifNull": [array, []]},
            "as": "this",
            "cond": {"$and": conditions},
        }
    }
    return {"$map": {"input": chosen, "as": "this", "in": {"$ifNull": ["$$this.e", 0]}}}


def expression(filter_: Filter, of: str) -> Document:
    """A filter of fields and comparisons as an aggregation expression about `of`."""
    conditions: list[Document] = []
    for name, asked in filter_.items():
        if name in ("$and", "$or"):
            conditions.append({name: [expression(part, of) for part in asked]})
        elif isinstance(asked, dict):
            conditions += (_comparison(f"{of}.{name}", o, v) for o, v in asked.items())
        else:
            conditions.append({"$eq": [f"{of}.{name}", {"$literal": asked}]})
    return {"$and": conditions}


def _comparison(field: str, operator: str, value: Any) -> Document:
    if operator == "$regex":
        return {"$regexMatch": {"input": field, "regex": {"$literal": value}}}
    # In expressions a missing field is less than everything; in filters it is nothing.
    compared: Document = {operator: [field, {"$literal": value}]}
    if operator in ("$lt", "$lte"):
        return {"$and": [{"$gt": [field, None]}, compared]}
    return compared
