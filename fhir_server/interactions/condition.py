"""Conditions: criteria in place of an id; they name one resource, none, or those to be deleted.

https://hl7.org/fhir/R4/http.html#ccreate
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.query_string import Params
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import Clause, Criterion, Query, Restriction, TokenValue
from fhir_server.errors import MultipleMatches, TooCostly
from fhir_server.interactions.context import Context
from fhir_server.store.protocol import Transaction

# One more than may match: enough to know that it is ambiguous.
_ENOUGH = 2

Identifier = tuple[str | None, str]


class Condition(NamedTuple):
    """Criteria about a type; `identifier` where they are one identifier and nothing else."""

    query: Query
    identifier: Identifier | None


def parse_condition(ctx: Context, resource_type: str, params: Params) -> Condition:
    """The condition that `params` make.

    Raises:
        InvalidSearch: they are empty, or a part of them would be ignored: a condition
            that lost a part would match what it must not.
    """
    criteria = parse_criteria(
        resource_type,
        params,
        ctx.parameters,
        base_url=ctx.base_url,
        time_zone=ctx.time_zone,
        now=ctx.now(),
        terminology=ctx.terminology,
    )
    restriction = ctx.principal.restriction
    query = Query(resource_type, criteria, count=_ENOUGH, restriction=restriction)
    return Condition(query, _identifier(criteria, restriction))


def find_match(tx: Transaction, condition: Condition) -> ResourceKey | None:
    """The one resource that matches, if there is one.

    Raises:
        MultipleMatches: there are several.
    """
    if condition.identifier is not None:
        found = tx.find(condition.query.resource_type, (condition.identifier,))
        return _only(found.get(condition.identifier, ()))
    return _only(tuple(version.key for version in tx.search(condition.query).versions))


def find_every(tx: Transaction, condition: Condition, limit: int) -> tuple[ResourceKey, ...]:
    """All resources that match.

    Raises:
        MultipleMatches: there are several, and `limit` is one.
        TooCostly: there are more than `limit`.
    """
    if condition.identifier is not None:
        found = tx.find(condition.query.resource_type, (condition.identifier,))
        keys = found.get(condition.identifier, ())
    else:
        page = tx.search(condition.query._replace(count=limit + 1))
        keys = tuple(version.key for version in page.versions)
    if limit == 1:
        _only(keys)
    if len(keys) > limit:
        raise TooCostly(f"more than {limit} resources match the condition")
    return keys


def find_matches(
    tx: Transaction, conditions: Iterable[Condition]
) -> Mapping[Condition, tuple[ResourceKey, ...]]:
    """Up to two matches of each, identifiers looked up together."""
    wanted = tuple(dict.fromkeys(conditions))
    by_type: dict[str, list[Identifier]] = {}
    for condition in wanted:
        if condition.identifier is not None:
            by_type.setdefault(condition.query.resource_type, []).append(condition.identifier)
    found = {name: tx.find(name, identifiers) for name, identifiers in by_type.items()}
    return {
        condition: found[condition.query.resource_type].get(condition.identifier, ())
        if condition.identifier is not None
        else tuple(version.key for version in tx.search(condition.query).versions)
        for condition in wanted
    }


def _only(keys: tuple[ResourceKey, ...]) -> ResourceKey | None:
    if len(keys) > 1:
        raise MultipleMatches("more than one resource matches the condition")
    return keys[0] if keys else None


def _identifier(criteria: tuple[Criterion, ...], restriction: Restriction) -> Identifier | None:
    match criteria:
        case (Clause(parameter, "", (TokenValue(str(system), str(code)),)),) if (
            parameter.code == "identifier" and system and code and not restriction.by_type
        ):
            return (system, code)
    return None
