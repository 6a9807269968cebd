"""Selectivity: which criterion the index is asked for, where one surely finds few."""

from fhir_server.core.search.parameter import SearchType
from fhir_server.core.search.query import AllOf, AnyOf, Chain, Clause, Criterion, Has, TokenValue
from fhir_server.store.mongo.steps import Filter

UNKNOWN = 9
"""The rank of what may find many."""


def rank(criterion: Criterion) -> int:
    """How few it surely finds, by the kind of what is asked; `UNKNOWN` is not known."""
    match criterion:
        case Clause(parameter, "", values):
            if parameter.code == "_id":
                return 0
            if parameter.type is SearchType.TOKEN and parameter.code == "identifier":
                has_codes = all(isinstance(v, TokenValue) and v.code for v in values)
                return 1 if has_codes else UNKNOWN
            return {SearchType.REFERENCE: 3, SearchType.STRING: 4}.get(parameter.type, UNKNOWN)
        case Clause(parameter, "exact" | "identifier"):
            return 2
        case Chain() | Has():
            return 5
        case AnyOf(criteria):
            return max(map(rank, criteria), default=UNKNOWN)
        case AllOf(criteria):
            return min(map(rank, criteria), default=UNKNOWN)
    return UNKNOWN


def not_by_index(condition: Filter) -> Filter:
    """The same condition, in a form for which no index is tried."""
    return {"$nor": [{"$nor": [condition]}]}


def is_driver(condition: Filter) -> bool:
    """Whether the index can find what meets it."""
    if "x" in condition or "k" in condition:
        return "$nin" not in condition.get("k", ())
    if "$or" in condition:
        return all(map(is_driver, condition["$or"]))
    return any(map(is_driver, condition.get("$and", ())))
