"""Missed measurements: what did not come by the end of its window, as a Task.

https://hl7.org/fhir/R4/task.html

Where more than one measurement an hour is asked for, a single one that is lost is nothing:
there an hour without any is, and the hours that follow it belong to the same silence.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.adherence import Kept, PlannedActivity
from fhir_server.core.monitoring.quarantine import TASK_SYSTEM
from fhir_server.core.resource_json import Resource

TASK_CODE = "missed-measurement"
IDENTIFIER_SYSTEM = "https://pmp.example/fhir/NamingSystem/missed-measurement"
OPEN = frozenset({"requested", "received", "accepted", "ready", "in-progress", "on-hold"})

HOUR = 3_600_000_000
DAY = 24 * HOUR


class Gap(NamedTuple):
    """What the activity at `place` asked for from `start` to `end`, `missing` of it.

    `settled` is when it was over; with nothing missing it is no gap any more.
    """

    place: int
    start: int
    end: int
    settled: int
    needed: int
    missing: int


def gaps(activities: Sequence[PlannedActivity], kept: Iterable[Kept], now: int) -> tuple[Gap, ...]:
    """Each window that is over by `now`, and what is missing in it."""
    over = [each for each in kept if each.expectation.window.settled <= now]
    found: list[Gap] = []
    for place, activity in enumerate(activities):
        of_place = [each for each in over if each.expectation.place == place]
        if activity.schedule.is_continuous:
            found += _silent_hours(place, of_place, now)
        else:
            found += (
                Gap(
                    place,
                    each.expectation.window.start,
                    each.expectation.window.end,
                    each.expectation.window.settled,
                    each.expectation.window.needed,
                    each.missed,
                )
                for each in of_place
            )
    return tuple(found)


def next_due(activities: Iterable[PlannedActivity], after: int) -> int | None:
    """When to look again: the first moment behind `after` at which something may be missed."""
    moments = []
    for activity in activities:
        schedule = activity.schedule
        moment = schedule.next_settled(after)
        if moment is not None:
            if schedule.is_continuous:
                moment = (moment // HOUR + 1) * HOUR + schedule.duration
            moments.append(moment)
    return min(moments, default=None)


def looked_back(activities: Iterable[PlannedActivity]) -> int:
    """How far before a moment a window may begin that is settled behind it, and its neighbors."""
    return max(
        (
            (3 * HOUR if a.schedule.is_continuous else 2 * a.schedule.reach()) + a.schedule.duration
            for a in activities
        ),
        default=0,
    )


def identifier(plan: ResourceKey, activity: PlannedActivity, gap: Gap) -> tuple[str, str]:
    """System and value that name the Task of a gap, whoever finds it, how often ever."""
    text = f"{plan} {activity.activity_id} {gap.start}"
    return IDENTIFIER_SYSTEM, hashlib.sha256(text.encode()).hexdigest()


def task(
    plan: ResourceKey, care_plan: Resource, activity: PlannedActivity, gap: Gap, zone: tzinfo
) -> Resource:
    """The Task of a gap: for those who look after the patient."""
    system, value = identifier(plan, activity, gap)
    period = {"start": _moment(gap.start, zone), "end": _moment(gap.end, zone)}
    found: Resource = {
        "resourceType": "Task",
        "identifier": [{"system": system, "value": value}],
        "basedOn": [{"reference": str(plan)}],
        "status": "requested",
        "intent": "order",
        "code": {
            "coding": [{"system": TASK_SYSTEM, "code": TASK_CODE, "display": "Missed measurement"}]
        },
        "description": f"{activity.name or 'Measurement'}: {gap.missing} of {gap.needed} missing",
        "focus": {"reference": str(activity.source)},
        "for": care_plan["subject"],
        "executionPeriod": period,
        "authoredOn": _moment(gap.settled, zone),
        "restriction": {"period": period},
    }
    if author := care_plan.get("author"):
        found["owner"] = author
    return found


def filled(stored: Resource, now: str) -> Resource:
    """The Task when what it asked for has come after all."""
    return {
        **stored,
        "status": "completed",
        "statusReason": {"text": "The measurement came late"},
        "lastModified": now,
    }


def _silent_hours(place: int, kept: Iterable[Kept], now: int) -> Iterator[Gap]:
    hours: dict[int, list[Kept]] = {}
    for each in kept:
        hours.setdefault(each.expectation.window.start // HOUR, []).append(each)
    was_silent = False
    for hour, of_hour in sorted(hours.items()):
        last = of_hour[-1].expectation.window
        if last.end < (hour + 1) * HOUR and now < (hour + 1) * HOUR:
            return
        is_silent = all(each.on_time + each.late == 0 for each in of_hour)
        needed = sum(each.expectation.window.needed for each in of_hour)
        start = of_hour[0].expectation.window.start
        if not (is_silent and was_silent):
            missing = needed if is_silent else 0
            yield Gap(place, start, last.end, last.settled, needed, missing)
        was_silent = is_silent


def _moment(instant: int, zone: tzinfo) -> str:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
    return when.astimezone(zone).isoformat(timespec="seconds")
