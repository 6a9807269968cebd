"""CarePlan/$adherence: what a plan asked for in a period, and what of it was measured.

https://hl7.org/fhir/R4/careplan.html
"""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from fhir_server.core import date_range, resource_json
from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.adherence import PlannedActivity, Tally, compare, tallies
from fhir_server.core.operation_input import Inputs, fault
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidResource, Issue
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read
from fhir_server.operations.planned import (
    Plan,
    expected_windows,
    moment,
    read_plan,
    read_readings,
    readings_query,
)

_DAY = 86_400_000_000
_DEFAULT_DAYS = 30
_MOST_DAYS = 366


async def adherence(ctx: Context, call: Invocation) -> bytes:
    """A Parameters: the period, the whole, and a part for each activity.

    Inputs: `start` and `end`, both optional: the 30 days up to now. What is not over by now
    is not expected yet.

    Raises:
        NotFound, Gone: there is no such plan.
        InvalidRequest: an input means nothing.
        InvalidResource: the plan is not understood.
        TooCostly: the period has too many windows or readings.
    """
    call.inputs.check_known("start", "end")
    if call.resource_id is None:
        raise LookupError("$adherence is of an instance")
    version = await read(ctx, ResourceKey("CarePlan", call.resource_id))
    try:
        plan = await read_plan(ctx.store, version, date_range.load_zone(ctx.time_zone))
    except (ValueError, ArithmeticError, KeyError, TypeError):
        raise _not_understood("its schedule is not understood") from None
    if plan is None:
        raise _not_understood("it is of no patient of this server")
    now = date_range.from_datetime(ctx.now())
    period = _period(call.inputs, plan, now)
    expected = expected_windows(plan, period.start, period.end)
    query = readings_query(ctx.parameters, plan, expected)
    readings = await read_readings(ctx.store, query, plan.zone)
    kept = await asyncio.to_thread(compare, plan.activities, expected, readings)
    answer = _Answer(plan, period, tallies(len(plan.activities), kept, now))
    return resource_json.format({"resourceType": "Parameters", "parameter": [*_tell(answer)]})


class _Answer(NamedTuple):
    plan: Plan
    period: DateRange
    tallies: tuple[Tally, ...]


def _period(inputs: Inputs, plan: Plan, now: int) -> DateRange:
    moments = {}
    for name in ("start", "end"):
        text = inputs.text(name)
        if text is not None:
            try:
                moments[name] = date_range.parse(text, plan.zone)
            except (ValueError, ArithmeticError):
                raise fault("must be a date or dateTime", name) from None
    until = min(moments["end"].end, now) if "end" in moments else now
    since = moments["start"].start if "start" in moments else until - _DEFAULT_DAYS * _DAY
    if "start" in moments and "end" in moments and moments["end"].end <= since:
        raise fault("is before the start", "end")
    if until - since > _MOST_DAYS * _DAY:
        raise fault(f"{_MOST_DAYS} days at most", "start", code="too-costly")
    return DateRange(since, max(since, until))


def _tell(answer: _Answer) -> Iterator[Resource]:
    plan, period = answer.plan, answer.period
    yield {
        "name": "period",
        "valuePeriod": {
            "start": moment(period.start, plan.zone),
            "end": moment(period.end, plan.zone),
        },
    }
    whole = Tally()
    for tally in answer.tallies:
        whole = whole.plus(tally)
    yield {"name": "overall", "part": [*_parts(whole)]}
    for activity, tally in zip(plan.activities, answer.tallies, strict=True):
        yield {"name": "activity", "part": [*_about(activity), *_parts(tally)]}


def _about(activity: PlannedActivity) -> Iterator[Resource]:
    reference = activity.activity_id.partition("#")[0]
    yield {"name": "source", "valueReference": {"reference": reference}}
    if activity.name:
        yield {"name": "name", "valueString": activity.name}
    codes = [{"system": system, "code": code} for system, code in sorted(activity.codes)]
    yield {"name": "code", "valueCodeableConcept": {"coding": codes}}


def _parts(tally: Tally) -> Iterator[Resource]:
    for name, number in (
        ("expected", tally.expected),
        ("done", tally.done),
        ("onTime", tally.on_time),
        ("missed", tally.missed),
    ):
        yield {"name": name, "valueUnsignedInt": number}
    if tally.expected:
        # Cut, never rounded up: 1 is all of it.
        share = tally.on_time * 1_000 // tally.expected / 1_000
        yield {"name": "onTimeShare", "valueDecimal": share}


def _not_understood(why: str) -> InvalidResource:
    return InvalidResource(issues=(Issue("business-rule", why, "CarePlan"),))
