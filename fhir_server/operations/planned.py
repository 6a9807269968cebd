"""Plans as they are stored: what they ask for, and the readings that answer it.

Read from a store or inside a decision; what is looked at is bounded.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import adherence
from fhir_server.core.monitoring.adherence import Expectation, PlannedActivity, Reading
from fhir_server.core.monitoring.assignment import local_key, requested_by
from fhir_server.core.monitoring.clock_zone import zone_of
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameter, SearchParameters
from fhir_server.core.search.query import (
    Clause,
    DateValue,
    Prefix,
    Query,
    ReferenceValue,
    TokenValue,
)
from fhir_server.core.version import Version
from fhir_server.errors import TooCostly
from fhir_server.store.protocol import Store, Transaction

_PAGE = 500
# More than five-minute readings of a quarter.
MOST_READINGS = 30_000
MOST_WINDOWS = 30_000
# What a plan points to; no real one has more.
_MOST_REQUESTS = 200


class Plan(NamedTuple):
    """An evaluated CarePlan; `zone` is that of the patient's clocks."""

    key: ResourceKey
    resource: Resource
    patient: ResourceKey
    activities: tuple[PlannedActivity, ...]
    zone: tzinfo
    is_alive: bool = True


async def read_plan(store: Store, version: Version, default_zone: tzinfo) -> Plan | None:
    """The plan that a CarePlan is; None for one that is not of a patient of this server.

    Raises:
        ValueError, ArithmeticError, KeyError, TypeError: it was let in unchecked and is odd.
    """
    care_plan = version.resource()
    patient = local_key(care_plan.get("subject"), "Patient")
    if patient is None:
        return None
    wanted = (patient, *requested_by(care_plan)[:_MOST_REQUESTS])
    found = {v.key: v.resource() for v in await store.read_many(wanted)}
    if (person := found.pop(patient, None)) is None:
        return None
    zone = zone_of(person, default_zone)
    activities = adherence.planned_activities(version.key, care_plan, found, zone)
    is_alive = not (person.get("deceasedBoolean") or person.get("deceasedDateTime"))
    return Plan(version.key, care_plan, patient, activities, zone, is_alive)


def expected_windows(plan: Plan, since: int, until: int) -> tuple[Expectation, ...]:
    """The windows that begin in that time.

    Raises:
        TooCostly: there are too many.
    """
    most = max((_most(activity, since, until) for activity in plan.activities), default=0)
    if most > MOST_WINDOWS:
        raise TooCostly("the period has too many expected measurements: ask for a shorter one")
    return adherence.expectations(plan.activities, since, until)


def readings_query(
    parameters: SearchParameters, plan: Plan, expected: Iterable[Expectation]
) -> Query | None:
    """The Observations that may answer `expected`; None where nothing is expected."""
    windows = tuple(expected)
    if not windows:
        return None
    stretch = DateRange(
        min(each.window.start for each in windows), max(each.late_until for each in windows)
    )
    codes = {code for each in windows for code in plan.activities[each.place].codes}
    tokens = tuple(TokenValue(system, code) for system, code in sorted(codes))
    clauses = [
        Clause(_parameter(parameters, "subject"), "", (ReferenceValue(*plan.patient),)),
        Clause(_parameter(parameters, "code"), "", tokens),
    ]
    date = _parameter(parameters, "date")
    for prefix, moment in ((Prefix.GE, stretch.start), (Prefix.LT, stretch.end)):
        value = DateValue(prefix, DateRange(moment, moment + 1))
        clauses.append(Clause(date, "", (value,)))
    return Query("Observation", tuple(clauses), count=_PAGE)


async def read_readings(store: Store, query: Query | None, zone: tzinfo) -> list[Reading]:
    """All readings that `query` finds.

    Raises:
        TooCostly: there are too many.
    """
    found: list[Reading] = []
    looked_at = 0
    while query is not None:
        page = await store.search(query)
        found += _readings(page.versions, zone)
        looked_at += len(page.versions)
        if looked_at > MOST_READINGS:
            raise TooCostly("the period has too many readings: ask for a shorter one")
        query = page.next and query._replace(after=page.next, as_of=page.as_of)
    return found


def readings_in(tx: Transaction, query: Query | None, zone: tzinfo) -> list[Reading]:
    """The same in a decision, up to as many as one request may look at."""
    found: list[Reading] = []
    looked_at = 0
    while query is not None and looked_at <= MOST_READINGS:
        page = tx.search(query)
        found += _readings(page.versions, zone)
        looked_at += len(page.versions)
        query = page.next and query._replace(after=page.next, as_of=page.as_of)
    return found


def moment(instant: int, zone: tzinfo) -> str:
    """An instant as a dateTime on the patient's clocks."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
    return when.astimezone(zone).isoformat(timespec="seconds")


def _readings(versions: Iterable[Version], zone: tzinfo) -> Iterator[Reading]:
    for version in versions:
        if (found := adherence.reading(version.resource(), zone)) is not None:
            yield found


def _most(activity: PlannedActivity, since: int, until: int) -> int:
    """No fewer windows than the activity has in that time."""
    bounds = activity.schedule.bounds
    length = min(until, bounds.end) - max(since, bounds.start)
    return max(length, 0) // activity.schedule.shortest() if length > 0 else 0


def _parameter(parameters: SearchParameters, name: str) -> SearchParameter:
    found = parameters.get("Observation", name)
    if found is None:
        raise LookupError(f"no search parameter Observation.{name}")
    return found
