"""Criteria as filters of MongoDB.

Filters are built of fixed field names and operators; what a client sent stands only where
MongoDB expects a value, so no text of a request can become an operator.
https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.search.parameter import SearchType
from fhir_server.core.search.query import (
    AllOf,
    AnyOf,
    Chain,
    Clause,
    Criterion,
    DateValue,
    Has,
    Not,
    Restriction,
    Value,
)
from fhir_server.errors import TooCostly
from fhir_server.store.mongo import comparisons, keys, owners, reads, selectivity, texts
from fhir_server.store.mongo.clauses import NOTHING, any_of, clause
from fhir_server.store.mongo.steps import Aggregate, Filter, Find, Steps

MAX_REFERRED = 20_000
"""How many resources a chain or `_has` may go through."""


class Scope(NamedTuple):
    """The moment a search is bound to, and what the principal may see."""

    as_of: int
    restriction: Restriction
    is_owned: bool = False
    """Whether every version says its owner."""

    def owned_by(self, patients: Sequence[str]) -> Filter:
        return owners.narrowing(patients) if self.is_owned else {}

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
    owned: Filter = {}
    for criterion in (*criteria, *scope.restrictions(resource_type)):
        condition = yield from _criterion(resource_type, criterion, scope)
        # Beside the other conditions, where the shards that have it can be told.
        of_chain = {name: condition.pop(name) for name in (owners.FIELD,) if name in condition}
        owned = owned or of_chain or scope.owned_by(owners.patients(criterion))
        conditions.append(condition)
        ranks.append(selectivity.rank(criterion))
    filter_ = scope.visible(resource_type) | owned
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


def _criterion(resource_type: str, criterion: Criterion, scope: Scope) -> Steps[Filter]:
    match criterion:
        case Clause(parameter, "", values) if parameter.code == "_lastUpdated":
            return (yield from _last_updated(values, scope))
        case Clause(parameter, modifier) if (
            parameter.type is SearchType.SPECIAL or modifier == "text"
        ):
            return (yield from texts.finding(resource_type, clause(criterion)))
        case Clause():
            return clause(criterion)
        case Chain():
            return (yield from _chain(criterion, scope))
        case Has():
            return (yield from _has(criterion, scope))
        case AnyOf(criteria):
            return any_of((yield from _criteria(resource_type, criteria, scope)))
        case AllOf(criteria):
            return {"$and": (yield from _criteria(resource_type, criteria, scope))}
        case Not(inner):
            return {"$nor": [(yield from _criterion(resource_type, inner, scope))]}


def _criteria(
    resource_type: str, criteria: Sequence[Criterion], scope: Scope
) -> Steps[list[Filter]]:
    found: list[Filter] = []
    for criterion in criteria:
        found.append((yield from _criterion(resource_type, criterion, scope)))
    return found


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
    if not wanted:
        return NOTHING
    is_of_patients = chain.resource_type == "Patient" and owners.says_owner(chain.parameter)
    patients = [document["k"] for document in found] if is_of_patients else ()
    return {"x": {"$in": wanted}, **scope.owned_by(patients)}


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
