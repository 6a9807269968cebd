"""Patient/$cgm-summary, $cgm-day and $home-blood-pressure: views of what was measured.

By GET they are computed and nothing is kept; `store_views` keeps those of past days.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple

from fhir_server.core import date_range, resource_json
from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.knowledge import LOINC
from fhir_server.core.monitoring.measured import in_unit, measured
from fhir_server.core.monitoring.views import (
    MG_DL,
    MMOL_L,
    Days,
    Pair,
    Point,
    as_kept,
    glucose_day,
    glucose_summary,
    is_derived,
    pressure_mean,
)
from fhir_server.core.operation_input import fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import (
    Clause,
    DateValue,
    Prefix,
    Query,
    ReferenceValue,
    SortKey,
    TokenValue,
)
from fhir_server.core.version import Version, is_same_content, next_version
from fhir_server.errors import NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read
from fhir_server.operations.all_found import find_all
from fhir_server.store.protocol import Transaction

_GLUCOSE = ("105272-9", "99504-3")
_PRESSURE = ("85354-9",)
_SYSTOLIC, _DIASTOLIC = (LOINC, "8480-6"), (LOINC, "8462-4")
_MOST_DAYS = 90
_MOST = 288 * _MOST_DAYS * 2
SUMMARY_DAYS, PRESSURE_DAYS = 14, 7


class View(NamedTuple):
    """A patient's measurements of some codes in some days."""

    patient: ResourceKey
    days: Days
    zone: tzinfo


async def cgm_summary(ctx: Context, call: Invocation) -> bytes:
    """The summary of the last 14 days, or from `start` to `end`.

    Raises:
        NotFound: there is no such patient, or nothing was measured.
        InvalidRequest: the days cannot be read, or are too many.
    """
    view = await _asked(ctx, call, SUMMARY_DAYS)
    points = await _points(ctx, view)
    if not points:
        raise NotFound("no continuous glucose was measured in these days")
    return resource_json.format(glucose_summary(view.patient, view.days, points, (), view.zone))


async def cgm_day(ctx: Context, call: Invocation) -> bytes:
    """The day `start` (by default today) as one SampledData; raises as `cgm_summary`."""
    view = await _asked(ctx, call, 1)
    points = await _points(ctx, view)
    if not points:
        raise NotFound("no continuous glucose was measured on that day")
    day = glucose_day(view.patient, view.days.first, points, view.zone)
    if view.days.first >= ctx.now().astimezone(view.zone).date():
        # It goes on.
        day["status"] = "preliminary"
    return resource_json.format(day)


async def home_blood_pressure(ctx: Context, call: Invocation) -> bytes:
    """The mean of the last 7 days, or from `start` to `end`; raises as `cgm_summary`."""
    view = await _asked(ctx, call, PRESSURE_DAYS)
    pairs = await _pairs(ctx, view)
    if not pairs:
        raise NotFound("no blood pressure was measured in these days")
    return resource_json.format(pressure_mean(view.patient, view.days, pairs))


async def store_views(ctx: Context, patient: ResourceKey, yesterday: date) -> int:
    """Keep what the days up to `yesterday` say of `patient`; how many views are new or changed.

    A view has an identifier of its own, so it is updated and never doubled.
    """
    zone = date_range.load_zone(ctx.time_zone)
    first = yesterday - timedelta(days=SUMMARY_DAYS - 1)
    whole = View(patient, Days(first, yesterday), zone)
    stored = 0
    if points := await _points(ctx, whole):
        sources = []
        for day, some in _by_day(points, whole):
            chunk = await asyncio.to_thread(glucose_day, patient, day, some, zone)
            key, is_new = await _store(ctx, as_kept(chunk))
            sources.append(str(key))
            stored += is_new
        summary = glucose_summary(patient, whole.days, points, sources, zone)
        stored += (await _store(ctx, summary))[1]
    week = whole._replace(days=Days(yesterday - timedelta(days=PRESSURE_DAYS - 1), yesterday))
    if pairs := await _pairs(ctx, week):
        stored += (await _store(ctx, pressure_mean(patient, week.days, pairs)))[1]
    return stored


async def _store(ctx: Context, view: Resource) -> tuple[ResourceKey, bool]:
    identifier = view["identifier"][0]
    name = (identifier["system"], identifier["value"])

    def decide(tx: Transaction) -> tuple[ResourceKey, bool]:
        for key in tx.find("Observation", (name,)).get(name, ()):
            current = tx.read(key)
            if current is not None and not current.is_deletion:
                if is_same_content(current, view):
                    return key, False
                tx.put(*next_version(current, key, view, tx.now))
                return key, True
        key = ResourceKey("Observation", ctx.new_id())
        tx.put(*next_version(None, key, view, tx.now))
        return key, True

    return await ctx.store.commit(decide)


async def _asked(ctx: Context, call: Invocation, number: int) -> View:
    call.inputs.check_known("start", "end")
    patient = ResourceKey("Patient", call.resource_id or "")
    await read(ctx, patient)
    zone = date_range.load_zone(ctx.time_zone)
    start, end = (_date(call.inputs.text(name), name) for name in ("start", "end"))
    last = end or (start + timedelta(days=number - 1) if start else None)
    last = last or ctx.now().astimezone(zone).date()
    first = start or last - timedelta(days=number - 1)
    if not 0 <= (last - first).days < _MOST_DAYS:
        raise fault(f"from 1 to {_MOST_DAYS} days", "end", code="value")
    return View(patient, Days(first, last), zone)


def _date(text: str | None, name: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise fault("a date as 2024-03-31", name, code="value") from None


async def _points(ctx: Context, view: View) -> list[Point]:
    versions = await _find(ctx, view, _GLUCOSE)
    return await asyncio.to_thread(lambda: list(_read_points(versions, view)))


def _read_points(versions: Sequence[Version], view: View) -> Iterator[Point]:
    stretch = view.days.stretch(view.zone)
    for version in versions:
        resource = version.resource()
        reading = measured(resource)
        instant = reading.instant(view.zone) if reading else None
        if reading is None or instant is None or not stretch.start <= instant < stretch.end:
            continue
        for number in reading.numbers:
            if number.unit in (MG_DL, MMOL_L):
                device = (resource.get("device") or {}).get("reference", "")
                yield Point(instant, number.value, number.unit, number.comparator, device)
                break


async def _pairs(ctx: Context, view: View) -> list[Pair]:
    versions = await _find(ctx, view, _PRESSURE)
    return await asyncio.to_thread(lambda: list(_read_pairs(versions)))


def _read_pairs(versions: Sequence[Version]) -> Iterator[Pair]:
    for version in versions:
        resource = version.resource()
        reading = None if is_derived(resource) else measured(resource)
        found = {}
        for number in reading.numbers if reading else ():
            value = in_unit(number.value, number.unit, "mm[Hg]")
            if value is not None and not number.comparator:
                found.update(dict.fromkeys(number.codes, value))
        if _SYSTOLIC in found and _DIASTOLIC in found:
            yield Pair(version.key, found[_SYSTOLIC], found[_DIASTOLIC])


async def _find(ctx: Context, view: View, codes: Sequence[str]) -> list[Version]:
    """Oldest first."""
    subject, code, moment = (
        ctx.parameters.get("Observation", name) for name in ("patient", "code", "date")
    )
    assert subject is not None
    assert code is not None
    assert moment is not None
    start, end = view.days.stretch(view.zone)
    query = Query(
        "Observation",
        (
            Clause(subject, "", (ReferenceValue(*view.patient),)),
            Clause(code, "", tuple(TokenValue(LOINC, each) for each in codes)),
            Clause(moment, "", (DateValue(Prefix.GE, DateRange(start, start + 1)),)),
            Clause(moment, "", (DateValue(Prefix.LT, DateRange(end, end + 1)),)),
        ),
        sort=(SortKey(moment, descending=False),),
        restriction=ctx.principal.restriction,
    )
    return await find_all(ctx, query, _MOST, "too many measurements: ask about fewer days")


def _by_day(points: Sequence[Point], view: View) -> Iterator[tuple[date, list[Point]]]:
    day = view.days.first
    while day <= view.days.last:
        stretch = Days(day, day).stretch(view.zone)
        some = [point for point in points if stretch.start <= point.instant < stretch.end]
        if some:
            yield day, some
        day += timedelta(days=1)


def yesterday_of(now: datetime, time_zone: str) -> date:
    """The last whole day."""
    return now.astimezone(date_range.load_zone(time_zone)).date() - timedelta(days=1)
