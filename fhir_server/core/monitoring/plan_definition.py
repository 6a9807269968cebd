"""A PlanDefinition applied to a patient: a CarePlan, a Goal for each limit, requests.

https://hl7.org/fhir/R4/plandefinition-operation-apply.html

Every action without actions of its own is an activity: a ServiceRequest. What is measured
and when is said by the action or by the ActivityDefinition that it contains. One that begins
where another ends is given its own period here, so a schedule needs no other resource.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.monitoring import claimed
from fhir_server.core.monitoring.claimed import claiming, claims_of_goal
from fhir_server.core.monitoring.schedule import later
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidResource, Issue

APPLICATION_SYSTEM = "https://pmp.example/fhir/NamingSystem/care-plan-application"
_GOAL_OF = "http://hl7.org/fhir/StructureDefinition/resource-pertainsToGoal"
_AFTER = frozenset({"after", "after-end"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Application(NamedTuple):
    """For whom, by whom and from when; the References as they stand in a resource.

    `start` and `end` are dates or dateTimes, `end` may be "". `identifier` is the order's
    own, None for a proposal that is not stored.
    """

    subject: Resource
    start: str
    now: str
    end: str = ""
    practitioner: Resource | None = None
    organization: Resource | None = None
    encounter: Resource | None = None
    identifier: Resource | None = None


class Applied(NamedTuple):
    """The resources of an application under the ids that they were given, the plan last."""

    goals: tuple[Resource, ...]
    requests: tuple[Resource, ...]
    plan: Resource


class _Action(NamedTuple):
    path: str
    action: Mapping[str, Any]
    code: Resource
    timing: Resource | None


def canonical(definition: Resource) -> str | None:
    """The URL of a PlanDefinition with its version."""
    url, version = definition.get("url"), definition.get("version")
    return f"{url}|{version}" if url and version else url


def application_identifier(identifier: Resource, part: str) -> tuple[str, str]:
    """System and value of what an order makes; `part` says which of it."""
    digest = hashlib.sha256()
    for text in (identifier.get("system"), identifier.get("value")):
        encoded = b"-" if text is None else b"=" + text.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return APPLICATION_SYSTEM, f"{digest.hexdigest()}.{part}"


def apply(
    definition: Resource, how: Application, new_id: Callable[[], str] | None, zone: tzinfo
) -> Applied:
    """What the plan says for this patient.

    `new_id` gives ids to resources that will be stored; without it they are contained in
    the plan, and all is a proposal.

    Raises:
        InvalidResource: the definition asks for what cannot be done here.
        ValueError: a date is none.
    """
    return _Application(definition, how, new_id, zone).apply()


class _Application:
    """One application."""

    def __init__(
        self,
        definition: Resource,
        how: Application,
        new_id: Callable[[], str] | None,
        zone: tzinfo,
    ) -> None:
        self._definition = definition
        self._how = how
        self._new_id = new_id
        self._zone = zone

    def apply(self) -> Applied:
        goals, by_id = [], {}
        for number, stated in enumerate(self._definition.get("goal", ())):
            goals.append(goal := self._goal(number, stated))
            by_id[stated.get("id", str(number))] = self._reference(goal)
        actions = tuple(_actions(self._definition))
        starts = self._starts(actions)
        plan_id = self._new_id() if self._new_id else ""
        requests = tuple(
            self._request(number, each, starts[number], by_id, plan_id)
            for number, each in enumerate(actions)
        )
        return Applied(tuple(goals), requests, self._plan(plan_id, goals, requests))

    def _goal(self, number: int, stated: Mapping[str, Any]) -> Resource:
        how = self._how
        goal: Resource = {
            **self._head("Goal", number),
            "lifecycleStatus": "active" if self._new_id else "proposed",
        }
        for name in ("category", "priority", "description", "addresses"):
            if name in stated:
                goal[name] = stated[name]
        goal["subject"] = how.subject
        goal["startDate"] = how.start.partition("T")[0]
        goal["target"] = [self._target(target) for target in stated.get("target", ())]
        if how.practitioner:
            goal["expressedBy"] = how.practitioner
        goal |= claims_of_goal(goal)
        return {name: value for name, value in goal.items() if value != []}

    def _target(self, target: Mapping[str, Any]) -> Resource:
        own = {name: value for name, value in target.items() if name not in ("id", "due")}
        if due := target.get("due"):
            until = later(self._instant(self._how.start), due, self._zone)
            own["dueDate"] = self._written(until)[:10]
        return own

    def _request(
        self,
        number: int,
        each: _Action,
        start: int,
        goals: Mapping[str, Resource],
        plan_id: str,
    ) -> Resource:
        how = self._how
        request: Resource = self._head("ServiceRequest", number)
        if extension := [
            {"url": _GOAL_OF, "valueReference": goals[name]}
            for name in each.action.get("goalId", ())
            if name in goals
        ]:
            request["extension"] = extension
        if url := canonical(self._definition):
            request["instantiatesCanonical"] = [url]
        if plan_id:
            request["basedOn"] = [{"reference": f"CarePlan/{plan_id}"}]
        request["status"] = "active" if self._new_id else "draft"
        request["intent"] = "order" if self._new_id else "proposal"
        request["code"] = each.code
        request["subject"] = how.subject
        if how.encounter:
            request["encounter"] = how.encounter
        if each.timing:
            request["occurrenceTiming"] = self._timing(each.timing, start)
        request["authoredOn"] = how.now
        if requester := how.practitioner or how.organization:
            request["requester"] = requester
        if title := each.action.get("title"):
            request["note"] = [{"text": title}]
        return request

    def _plan(
        self, plan_id: str, goals: Iterable[Resource], requests: Iterable[Resource]
    ) -> Resource:
        how, definition = self._how, self._definition
        plan: Resource = {"resourceType": "CarePlan", "meta": claiming(claimed.PLAN)}
        if plan_id:
            plan["id"] = plan_id
        else:
            plan["contained"] = [*goals, *requests]
        if how.identifier:
            plan["identifier"] = [self._own_identifier("plan"), how.identifier]
        if url := canonical(definition):
            plan["instantiatesCanonical"] = [url]
        plan["status"] = "active" if self._new_id else "draft"
        plan["intent"] = "plan" if self._new_id else "proposal"
        if topic := definition.get("topic"):
            plan["category"] = topic
        for name in ("title", "description"):
            if name in definition:
                plan[name] = definition[name]
        plan["subject"] = how.subject
        if how.encounter:
            plan["encounter"] = how.encounter
        plan["period"] = {"start": how.start, **({"end": how.end} if how.end else {})}
        plan["created"] = how.now
        if author := how.practitioner or how.organization:
            plan["author"] = author
        if references := [self._reference(goal) for goal in goals]:
            plan["goal"] = references
        if activities := [{"reference": self._reference(request)} for request in requests]:
            plan["activity"] = activities
        return {name: value for name, value in plan.items() if value != []}

    def _head(self, resource_type: str, number: int) -> Resource:
        name = f"{resource_type.lower()}-{number}"
        head: Resource = {"resourceType": resource_type, "id": name}
        if self._new_id:
            head["id"] = self._new_id()
        if self._how.identifier:
            head["identifier"] = [self._own_identifier(name)]
        return head

    def _own_identifier(self, part: str) -> Resource:
        system, value = application_identifier(self._how.identifier or {}, part)
        return {"system": system, "value": value}

    def _reference(self, resource: Resource) -> Resource:
        if self._new_id:
            return {"reference": f"{resource['resourceType']}/{resource['id']}"}
        return {"reference": f"#{resource['id']}"}

    def _starts(self, actions: tuple[_Action, ...]) -> list[int]:
        """When each action begins: with the plan, or where those before it end."""
        begin = self._instant(self._how.start)
        starts: list[int] = []
        ends: dict[str, int] = {}
        for each in actions:
            start = begin
            for related in each.action.get("relatedAction", ()):
                name = related.get("actionId")
                if related.get("relationship") not in _AFTER or name not in ends:
                    raise _cannot(each.path, "an action begins after the end of an earlier one")
                offset = related.get("offsetDuration") or {}
                start = max(start, later(ends[name], offset, self._zone))
            starts.append(start)
            length = ((each.timing or {}).get("repeat") or {}).get("boundsDuration")
            if length and "id" in each.action:
                ends[each.action["id"]] = later(start, length, self._zone)
        return starts

    def _timing(self, timing: Resource, start: int) -> Resource:
        repeat = timing.get("repeat") or {}
        length = repeat.get("boundsDuration")
        is_later = start > self._instant(self._how.start)
        if not length and not is_later:
            return timing
        period = {"start": self._written(start) if is_later else self._how.start}
        if length:
            # The end of a Period belongs to it.
            end = later(start, length, self._zone) - (0 if "T" in self._how.start else 1)
            period["end"] = self._written(end)
        rest = {name: value for name, value in repeat.items() if not name.startswith("bounds")}
        return {**timing, "repeat": {"boundsPeriod": period, **rest}}

    def _instant(self, text: str) -> int:
        return date_range.parse(text, self._zone).start

    def _written(self, instant: int) -> str:
        """As precisely as the start of the plan is."""
        when = (_EPOCH + timedelta(microseconds=instant)).astimezone(self._zone)
        if "T" not in self._how.start:
            return when.date().isoformat()
        return when.isoformat(timespec="seconds")


def _actions(definition: Resource) -> Iterator[_Action]:
    contained = {
        resource.get("id"): resource
        for resource in definition.get("contained", ())
        if resource.get("resourceType") == "ActivityDefinition"
    }

    def walk(actions: Iterable[Mapping[str, Any]], path: str) -> Iterator[_Action]:
        for index, action in enumerate(actions):
            here = f"{path}.action[{index}]"
            if action.get("condition"):
                raise _cannot(here, "conditions of actions are not evaluated here")
            if inner := action.get("action"):
                yield from walk(inner, here)
                continue
            activity: Resource | None = {}
            if url := action.get("definitionCanonical"):
                activity = contained.get(url.removeprefix("#"))
            if activity is None:
                raise _cannot(here, "an ActivityDefinition is expected to be contained")
            code = next(iter(action.get("code", ())), None) or activity.get("code")
            if not code:
                raise _cannot(here, "it does not say what is to be measured")
            timing = action.get("timingTiming") or activity.get("timingTiming")
            yield _Action(here, action, code, timing)

    return walk(definition.get("action", ()), "PlanDefinition")


def _cannot(path: str, why: str) -> InvalidResource:
    return InvalidResource(issues=(Issue("not-supported", why, path),))
