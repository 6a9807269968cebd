"""SubscriptionTopics: which changes are events, and by what a subscriber may narrow them.

Shipped as data in the shape of R5's resource, for R4 has none of its own.
https://hl7.org/fhir/R5/subscriptiontopic.html
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_server.core import query_string
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.match import Indexed, Resolve, matches
from fhir_server.core.search.query import AnyOf, Chain, Criterion, Has
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch

ReadCriteria = Callable[[str, query_string.Params], tuple[Criterion, ...]]
Condition = Callable[[Resource | None, Resource | None], bool]
"""Of the state before and the new one; one that is not there is None."""

_INTERACTIONS = frozenset({"create", "update", "delete"})
_RESULTS = {"test-passes": True, "test-fails": False}


class Change(NamedTuple):
    """A committed version and the state before it. A state that is not there is None."""

    version: Version
    current: Indexed | None
    previous: Indexed | None

    @property
    def subject(self) -> Indexed | None:
        """What a filter is about: the new state, or what was deleted."""
        return self.current or self.previous


class Trigger(NamedTuple):
    """One kind of change that is an event.

    `previous` and `current` are about the two states, None asks nothing. `is_both` wants
    both of them, otherwise either does. A state that is not there is as `of_create` and
    `of_delete` say.
    """

    resource_type: str
    interactions: frozenset[str]
    current: tuple[Criterion, ...] | None = None
    previous: tuple[Criterion, ...] | None = None
    is_both: bool = False
    of_create: bool = True
    of_delete: bool = True
    condition: Condition | None = None

    def is_pulled(self, change: Change, resolve: Resolve) -> bool:
        """Whether `change` is such an event."""
        if (
            change.version.key.resource_type != self.resource_type
            or _happening(change.version) not in self.interactions
        ):
            return False
        asked = [
            (criteria, state, otherwise)
            for criteria, state, otherwise in (
                (self.previous, change.previous, self.of_create),
                (self.current, change.current, self.of_delete),
            )
            if criteria is not None
        ]
        results = (
            otherwise if state is None else matches(*state, criteria, resolve)
            for criteria, state, otherwise in asked
        )
        if asked and not (all(results) if self.is_both else any(results)):
            return False
        return self.condition is None or self.condition(
            _resource(change.previous), _resource(change.current)
        )


def _resource(state: Indexed | None) -> Resource | None:
    return None if state is None else state.version.resource()


class FilterRule(NamedTuple):
    """How a parameter may be used to filter; None is any way that search knows."""

    comparators: frozenset[str] | None = None
    modifiers: frozenset[str] | None = None

    def fault(self, modifier: str, comparators: Iterable[str]) -> str:
        """Why this use is not allowed; "" if it is."""
        if modifier and self.modifiers is not None and modifier not in self.modifiers:
            return "the topic does not allow this modifier"
        if self.comparators is not None and not self.comparators.issuperset(comparators):
            known = ", ".join(sorted(self.comparators))
            return f"the topic allows the comparators {known}"
        return ""


def _happening(version: Version) -> str:
    """A topic's word: to subscribers a resource is new, whoever chose its id."""
    return "create" if version.is_creation else version.interaction


class Topic(NamedTuple):
    """A topic by its canonical `url`. `filters` are the parameters it may be filtered by."""

    url: str
    title: str
    triggers: tuple[Trigger, ...]
    filters: Mapping[str, Mapping[str, FilterRule]]


def parse(
    resource: Resource,
    read_criteria: ReadCriteria,
    compile_condition: Callable[[str], Condition] | None = None,
) -> Topic:
    """A topic from its JSON; without `compile_condition` it may have no fhirPathCriteria.

    Raises:
        ValueError: it lacks something, or asks for what this server does not evaluate.
    """
    url = resource.get("url")
    if not isinstance(url, str) or not url:
        raise ValueError("the topic has no url")
    if resource.get("eventTrigger"):
        raise ValueError(f"{url}: eventTrigger is not supported")
    try:
        triggers = tuple(
            _trigger(each, read_criteria, compile_condition) for each in resource["resourceTrigger"]
        )
        filters: dict[str, dict[str, FilterRule]] = {}
        types = {trigger.resource_type for trigger in triggers}
        for each in resource.get("canFilterBy", ()):
            # Without a type it is about all that the topic has.
            named = each.get("resource")
            for name in types if named is None else (named.rpartition("/")[2],):
                filters.setdefault(name, {})[each["filterParameter"]] = FilterRule(
                    _codes(each, "comparator"), _codes(each, "modifier")
                )
    except InvalidSearch as error:
        raise ValueError(f"{url}: {error}") from None
    except KeyError as missing:
        raise ValueError(f"{url}: {missing.args[0]} is missing") from None
    if not triggers:
        raise ValueError(f"{url}: the topic has no trigger")
    return Topic(url, str(resource.get("title", "")), triggers, filters)


def _codes(found: Mapping[str, Any], name: str) -> frozenset[str] | None:
    return frozenset(found[name]) if found.get(name) else None


def _trigger(
    found: Mapping[str, Any],
    read_criteria: ReadCriteria,
    compile_condition: Callable[[str], Condition] | None,
) -> Trigger:
    resource_type = found["resource"].rpartition("/")[2]
    condition = None
    if "fhirPathCriteria" in found:
        if compile_condition is None:
            raise InvalidSearch("fhirPathCriteria is not supported here")
        condition = compile_condition(found["fhirPathCriteria"])
    interactions = frozenset(found.get("supportedInteraction", ())) or _INTERACTIONS
    if not interactions <= _INTERACTIONS:
        raise InvalidSearch("supportedInteraction is create, update or delete")
    query = found.get("queryCriteria", {})

    def criteria(name: str) -> tuple[Criterion, ...] | None:
        if name not in query:
            return None
        return read_criteria(resource_type, query_string.parse(query[name]))

    def result(name: str) -> bool:
        if query.get(name, "test-passes") not in _RESULTS:
            raise InvalidSearch(f"{name} is test-passes or test-fails")
        return _RESULTS[query.get(name, "test-passes")]

    return Trigger(
        resource_type,
        interactions,
        criteria("current"),
        criteria("previous"),
        query.get("requireBoth", False),
        result("resultForCreate"),
        result("resultForDelete"),
        condition,
    )


def chained(criteria: Iterable[Criterion]) -> Sequence[Chain | Has]:
    """The criteria that ask about other resources, wherever they stand."""
    found: list[Chain | Has] = []
    for criterion in criteria:
        match criterion:
            case AnyOf(inner):
                found += chained(inner)
            case Chain() | Has():
                found += [criterion, *chained((criterion.criterion,))]
    return found
