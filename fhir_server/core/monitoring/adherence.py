"""Adherence: what was to be measured held against what was.

Each reading answers one window at most: the one that it is in time for and that ends first,
else one that it is late for. So what two activities both ask for is not counted twice.
https://hl7.org/fhir/R4/careplan.html
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import schedule
from fhir_server.core.monitoring.assignment import Code, concept_codes, is_auxiliary, local_key
from fhir_server.core.monitoring.measured import COUNTS, moment_of
from fhir_server.core.monitoring.schedule import Schedule, Window
from fhir_server.core.resource_json import Resource

_IS_OVER = frozenset({"cancelled", "stopped", "entered-in-error", "revoked", "draft", "on-hold"})


class PlannedActivity(NamedTuple):
    """One activity of a plan that is measured on a schedule.

    `source` is the ServiceRequest, or the CarePlan that says it itself; `activity_id` stays
    the same while the plan lives.
    """

    activity_id: str
    source: ResourceKey
    name: str
    codes: frozenset[Code]
    schedule: Schedule
    goals: tuple[ResourceKey, ...] = ()


class Reading(NamedTuple):
    """What counts as a measurement: when it was taken, and its codes."""

    instant: int
    codes: frozenset[Code]


class Expectation(NamedTuple):
    """A window of the activity at `place`; a reading before `late_until` still fills it."""

    place: int
    window: Window
    late_until: int


class Kept(NamedTuple):
    """How an expectation was met: in time, late, or not by so many."""

    expectation: Expectation
    on_time: int
    late: int

    @property
    def missed(self) -> int:
        return self.expectation.window.needed - self.on_time - self.late


class Tally(NamedTuple):
    """Measurements of a stretch of time; `done` has those that came late too."""

    expected: int = 0
    done: int = 0
    on_time: int = 0

    @property
    def missed(self) -> int:
        return self.expected - self.done

    def plus(self, other: "Tally") -> "Tally":
        return Tally(
            self.expected + other.expected, self.done + other.done, self.on_time + other.on_time
        )


def planned_activities(
    key: ResourceKey,
    care_plan: Resource,
    requests: Mapping[ResourceKey, Resource],
    zone: tzinfo,
) -> tuple[PlannedActivity, ...]:
    """What an active plan asks to be measured, and when; `requests` are those it points to.

    Raises:
        ValueError, ArithmeticError, KeyError, TypeError: it was let in unchecked and is odd.
    """
    if care_plan.get("status") not in ("active", "completed", "revoked", "on-hold"):
        return ()
    bounds = _bounds(care_plan, zone)
    found = []
    for index, activity in enumerate(care_plan.get("activity", ())):
        detail, source = activity.get("detail") or {}, key
        timing = detail.get("scheduledTiming")
        if (request := local_key(activity.get("reference"), "ServiceRequest")) is not None:
            detail, source = requests.get(request) or {}, request
            timing = detail.get("occurrenceTiming")
        codes = frozenset(concept_codes(detail.get("code")))
        if not timing or not codes or detail.get("status") in _IS_OVER:
            continue
        if (evaluated := schedule.parse(timing, bounds, zone)) is None:
            continue
        goals = (local_key(goal, "Goal") for goal in detail.get("goal", ()))
        found.append(
            PlannedActivity(
                f"{source}" if source != key else f"{key}#{activity.get('id', index)}",
                source,
                _name(detail.get("code") or {}),
                codes,
                evaluated,
                tuple(goal for goal in goals if goal is not None),
            )
        )
    return tuple(found)


def reading(observation: Resource, zone: tzinfo) -> Reading | None:
    """The reading that an Observation is; None where nothing was measured.

    What came from an auxiliary device, does not count or has no value is none.
    """
    if observation.get("status") not in COUNTS or is_auxiliary(observation):
        return None
    parts = (observation, *observation.get("component", ()))
    if not any(name.startswith("value") for part in parts for name in part):
        return None
    moment = moment_of(observation)
    codes = frozenset(concept_codes(observation.get("code")))
    return Reading(date_range.parse(moment, zone).start, codes) if moment else None


def expectations(
    activities: Sequence[PlannedActivity], since: int, until: int
) -> tuple[Expectation, ...]:
    """The windows of all activities that begin from `since` on and before `until`, in order."""
    return tuple(
        sorted(
            (
                each
                for index, activity in enumerate(activities)
                for each in _with_lateness(
                    index, activity.schedule.windows(since, until + activity.schedule.reach())
                )
                if since <= each.window.start < until
            ),
            key=lambda each: (each.window.start, each.window.end, each.place),
        )
    )


def compare(
    activities: Sequence[PlannedActivity],
    expected: Sequence[Expectation],
    readings: Iterable[Reading],
) -> tuple[Kept, ...]:
    """How each of `expected`, which are in order, was met. Readings of one moment are one."""
    on_time, late = [0] * len(expected), [0] * len(expected)
    waiting: list[int] = []
    upcoming = 0
    for each in _distinct(readings):
        while upcoming < len(expected) and expected[upcoming].window.start <= each.instant:
            waiting.append(upcoming)
            upcoming += 1
        waiting = [
            n
            for n in waiting
            if expected[n].late_until > each.instant
            and on_time[n] + late[n] < expected[n].window.needed
        ]
        fitting = [
            n for n in waiting if not activities[expected[n].place].codes.isdisjoint(each.codes)
        ]
        if in_time := [n for n in fitting if expected[n].window.end > each.instant]:
            on_time[min(in_time, key=lambda n: expected[n].window.end)] += 1
        elif fitting:
            late[min(fitting, key=lambda n: expected[n].late_until)] += 1
    return tuple(
        Kept(each, in_time, after)
        for each, in_time, after in zip(expected, on_time, late, strict=True)
    )


def tallies(count: int, kept: Iterable[Kept], now: int) -> tuple[Tally, ...]:
    """One for each of `count` activities; a window that goes on is not expected yet."""
    found = [Tally()] * count
    for each in kept:
        if each.expectation.window.settled <= now:
            done = each.on_time + each.late
            tally = Tally(each.expectation.window.needed, done, each.on_time)
            found[each.expectation.place] = found[each.expectation.place].plus(tally)
    return tuple(found)


def _with_lateness(index: int, windows: Iterable[Window]) -> Iterator[Expectation]:
    """A reading may be late by the length of its window, but not into the next one."""
    previous: Window | None = None
    for window in windows:
        if previous is not None:
            yield _expectation(index, previous, window.start)
        previous = window
    if previous is not None:
        yield _expectation(index, previous, LATEST)


def _expectation(index: int, window: Window, following: int) -> Expectation:
    late_until = min(following, window.end + (window.end - window.start))
    return Expectation(index, window, max(late_until, window.end))


def _distinct(readings: Iterable[Reading]) -> Iterator[Reading]:
    last: Reading | None = None
    for each in sorted(readings, key=lambda r: (r.instant, sorted(r.codes))):
        if each != last:
            yield each
        last = each


def _bounds(care_plan: Resource, zone: tzinfo) -> DateRange:
    bounds = date_range.of_period(care_plan.get("period") or {}, zone)
    start = EARLIEST if bounds is None else bounds.start
    if start == EARLIEST:
        created = care_plan.get("created") or (care_plan.get("meta") or {}).get("lastUpdated")
        start = date_range.parse(created, zone).start if created else EARLIEST
    return DateRange(start, LATEST if bounds is None else bounds.end)


def _name(concept: Mapping[str, Any]) -> str:
    """What to call an activity."""
    if text := concept.get("text"):
        return str(text)
    for coding in concept.get("coding", ()):
        if name := coding.get("display") or coding.get("code"):
            return str(name)
    return ""
