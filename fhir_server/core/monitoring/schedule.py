"""Schedules: a FHIR Timing evaluated into the windows in which somebody is to measure.

https://hl7.org/fhir/R4/datatypes.html#Timing

A window asks for some measurements between two moments. Where the Timing names a time of
day or an event of the day it is a part of that day on the clocks of the patient's zone;
where it only says how often, it is the whole period. A window that lies partly outside of
the bounds asks for nothing. What a clock change skips or repeats is read with the offset
before the change, as everywhere (ADR 0022).
"""

from calendar import monthrange
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.date_range import EARLIEST, DateRange
from fhir_server.core.monitoring.time_of_day import DAY_MINUTES, Slot, around, slots_of_events

_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_ELAPSED = {"s": _SECOND, "min": 60 * _SECOND, "h": 3_600 * _SECOND}
_FIXED = {**_ELAPSED, "d": _DAY, "wk": 7 * _DAY, "mo": 30 * _DAY, "a": 365 * _DAY}
_MONTHS = {"mo": 1, "a": 12}
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# What the codes of timing-abbreviation say, for a Timing that says nothing else.
_ABBREVIATIONS: Mapping[str, Mapping[str, Any]] = {
    "QD": {"frequency": 1, "period": 1, "periodUnit": "d"},
    "BID": {"frequency": 2, "period": 1, "periodUnit": "d"},
    "TID": {"frequency": 3, "period": 1, "periodUnit": "d"},
    "QID": {"frequency": 4, "period": 1, "periodUnit": "d"},
    "QOD": {"frequency": 1, "period": 2, "periodUnit": "d"},
    "AM": {"frequency": 1, "period": 1, "periodUnit": "d", "when": ["MORN"]},
    "PM": {"frequency": 1, "period": 1, "periodUnit": "d", "when": ["AFT"]},
    "BED": {"frequency": 1, "period": 1, "periodUnit": "d", "when": ["HS"]},
    "Q1H": {"frequency": 1, "period": 1, "periodUnit": "h"},
    "Q2H": {"frequency": 1, "period": 2, "periodUnit": "h"},
    "Q3H": {"frequency": 1, "period": 3, "periodUnit": "h"},
    "Q4H": {"frequency": 1, "period": 4, "periodUnit": "h"},
    "Q6H": {"frequency": 1, "period": 6, "periodUnit": "h"},
    "Q8H": {"frequency": 1, "period": 8, "periodUnit": "h"},
    "WK": {"frequency": 1, "period": 1, "periodUnit": "wk"},
    "MO": {"frequency": 1, "period": 1, "periodUnit": "mo"},
}


class Window(NamedTuple):
    """`needed` measurements are expected from `start` on and before `end`.

    `settled` is when one that has not come is missed: the end, and as long as a
    measurement takes. All in microseconds since 1970.
    """

    start: int
    end: int
    needed: int
    settled: int


class Schedule(NamedTuple):
    """A Timing, read: how often, at which times of the day, on which days, from when to when.

    `period` is in `unit`; `weekdays` count from Monday, 0; `bounds` are those of the Timing
    within those of the plan. `first` is where periods are counted from. `most` ends it
    after so many measurements. `duration` is how long one takes. `events` are single ones.
    """

    bounds: DateRange
    first: int
    zone: tzinfo
    frequency: int = 1
    period: Decimal = Decimal(1)
    unit: str = ""
    slots: tuple[Slot, ...] = ()
    weekdays: frozenset[int] = frozenset()
    most: int | None = None
    duration: int = 0
    events: tuple[DateRange, ...] = ()

    @property
    def is_continuous(self) -> bool:
        """Whether it asks for more than one measurement an hour."""
        step = _ELAPSED.get(self.unit)
        return step is not None and not self.slots and step * self.period < _ELAPSED["h"]

    def windows(self, since: int, until: int) -> Iterator[Window]:
        """The windows that share a moment with `since` to `until`, in order, apart.

        With a `most` all windows from the first on are gone through.
        """
        until = min(until, self.bounds.end)
        if self.most is None:
            since = max(since, self.bounds.start)
            yield from (w for w in self._all(since, until) if w.end > since and w.start < until)
            return
        left = self.most
        for window in self._all(self.bounds.start, until):
            if left <= 0 or window.start >= until:
                return
            needed = min(left, window.needed)
            left -= needed
            if window.end > since:
                yield window._replace(needed=needed)

    def next_settled(self, after: int) -> int | None:
        """The first moment behind `after` at which a window is over; None when none is."""
        reach = self.reach() + self.duration + 2 * _DAY
        begin = max(after, self.bounds.start) - self.duration
        # Days of the week, and periods that are counted anew each week, leave gaps.
        for _ in range(12):
            if begin >= self.bounds.end:
                return None
            for window in self.windows(begin, begin + reach):
                if window.settled > after:
                    return window.settled
            begin += reach
        return None

    def shortest(self) -> int:
        """About how far apart windows begin at least."""
        if self.unit in _ELAPSED and not self.slots and not self.weekdays:
            return max(int(self.period * _ELAPSED[self.unit]), _SECOND)
        return _DAY // max(len(self.slots), 1)

    def reach(self) -> int:
        """No window is further than this from the one behind it, in days that are asked for."""
        return int(max(self.period, Decimal(1)) * _FIXED.get(self.unit, _DAY)) + _DAY

    def _all(self, since: int, until: int) -> Iterator[Window]:
        """Windows in order, wholly within the bounds, from about `since` on."""
        ends = self.bounds.start
        for start, end, needed in self._raw(since, until):
            if start < self.bounds.start or end > self.bounds.end:
                continue
            # A clock change can make two parts of one day meet.
            start = max(start, ends)
            if start < end:
                yield Window(start, end, needed, end + self.duration)
                ends = end

    def _raw(self, since: int, until: int) -> Iterator[tuple[int, int, int]]:
        if self.events:
            for event in sorted(self.events):
                yield event.start, event.end, 1
        elif self.unit in _ELAPSED and not self.slots and not self.weekdays:
            yield from self._elapsed(since, until)
        elif self.unit in _MONTHS:
            yield from self._months(since, until)
        elif self.unit == "wk" and not self.weekdays:
            yield from self._stretches(int(self.period * 7) or 1, since, until)
        else:
            yield from self._daily(since, until)

    def _elapsed(self, since: int, until: int) -> Iterator[tuple[int, int, int]]:
        step = max(int(self.period * _ELAPSED[self.unit]), _SECOND)
        start = self.first + max(0, (since - self.first) // step) * step
        while start < until:
            yield start, start + step, self.frequency
            start += step

    def _months(self, since: int, until: int) -> Iterator[tuple[int, int, int]]:
        step = max(int(self.period * _MONTHS[self.unit]), 1)
        first = self._day(self.first)
        years = self._day(max(since, self.first)).year - first.year
        number = max(0, years * 12 - 12) // step
        while True:
            start = self._midnight(_months_later(first, number * step))
            if start >= until:
                return
            yield start, self._midnight(_months_later(first, (number + 1) * step)), self.frequency
            number += 1

    def _stretches(self, days: int, since: int, until: int) -> Iterator[tuple[int, int, int]]:
        """Periods of whole days, each with what is asked for in it."""
        first = self._day(self.first)
        number = max(0, (self._day(max(since, self.first)) - first).days // days)
        while True:
            day = first + timedelta(days=number * days)
            start = self._midnight(day)
            if start >= until:
                return
            yield start, self._midnight(day + timedelta(days=days)), self.frequency
            number += 1

    def _daily(self, since: int, until: int) -> Iterator[tuple[int, int, int]]:
        """Parts of days: those of the week, or each so-many-th, at the times that are named."""
        first = self._day(self.first)
        weeks = max(int(self.period), 1) if self.unit == "wk" else 1
        days = max(int(self.period), 1) if self.unit == "d" else 1
        if days > 1 and not self.slots and not self.weekdays:
            yield from self._stretches(days, since, until)
            return
        slots = self.slots or (Slot(0, DAY_MINUTES),)
        is_weekly = self.unit == "wk"
        places = len(slots) * (len(self.weekdays) if is_weekly else 1)
        # A part of a day may begin on the one before and end on the next.
        day = max(first, self._day(max(since, self.first)) - timedelta(days=1))
        while self._midnight(day) < until + _DAY:
            age = (day - first).days
            is_on = age // 7 % weeks == 0 if is_weekly else age % days == 0
            if is_on and (not self.weekdays or day.weekday() in self.weekdays):
                before = self._days_before(day, age % 7) * len(slots) if is_weekly else 0
                for number, slot in enumerate(slots):
                    start, end = self._at(day, slot.start), self._at(day, slot.end)
                    if end <= start:
                        # The clock skips all of it.
                        end = start + (slot.end - slot.start) * _ELAPSED["min"]
                    yield start, end, self._share(before + number, places)
            day += timedelta(days=1)

    def _days_before(self, day: date, days: int) -> int:
        """How many of the named weekdays lie in the `days` before `day`."""
        return sum((day - timedelta(days=n + 1)).weekday() in self.weekdays for n in range(days))

    def _share(self, place: int, places: int) -> int:
        """How many of the frequency fall on one of the places of a period; at least one."""
        each, rest = divmod(self.frequency, places)
        return max(each + (place < rest), 1)

    def _day(self, instant: int) -> date:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
        return moment.astimezone(self.zone).date()

    def _midnight(self, day: date) -> int:
        return self._at(day, 0)

    def _at(self, day: date, minutes: int) -> int:
        """The moment at which clocks show so many minutes of `day`; beyond it is the next."""
        wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001
        return date_range.from_datetime(wall.replace(tzinfo=self.zone))


def parse(timing: Mapping[str, Any], within: DateRange, zone: tzinfo) -> Schedule | None:
    """The schedule of a Timing in a plan that runs `within`.

    None where it does not say when to measure, or `within` has no start.

    Raises:
        ValueError: a date or time of it is none.
    """
    repeat = timing.get("repeat") or _abbreviated(timing.get("code"))
    bounds = _bounds(repeat, within, zone)
    events = tuple(
        date_range.parse(event, zone) if "T" not in event else _around_moment(event, zone)
        for event in timing.get("event") or ()
    )
    if events:
        first = min(event.start for event in events)
        duration = _duration(repeat)
        # An event says itself when it is.
        outer = DateRange(max(first, within.start), within.end)
        return Schedule(outer, outer.start, zone, duration=duration, events=events)
    if not repeat or bounds.start == EARLIEST or bounds.end <= bounds.start:
        return None
    unit = repeat.get("periodUnit", "")
    period = _decimal(repeat.get("period", 1))
    times = [_minutes(text) for text in repeat.get("timeOfDay", ())]
    slots = (
        around(times)
        if times
        else slots_of_events(repeat.get("when", ()), int(repeat.get("offset", 0)))
    )
    weekdays = frozenset(_WEEKDAYS.index(day) for day in repeat.get("dayOfWeek", ()))
    if not unit:
        if not slots and not weekdays:
            return None
        unit = "d"
    if unit == "d" and period != int(period) and not slots:
        unit, period = "h", period * 24
    if slots and unit in _ELAPSED:
        # Times of the day are said for each day.
        unit, period = "d", Decimal(1)
    count = repeat.get("count")
    return Schedule(
        bounds=bounds,
        first=bounds.start,
        zone=zone,
        frequency=max(int(repeat.get("frequency", 1)), 1),
        period=max(period, Decimal("0.001")),
        unit=unit,
        slots=slots,
        weekdays=weekdays,
        most=None if count is None else int(count),
        duration=_duration(repeat),
    )


def _bounds(repeat: Mapping[str, Any], within: DateRange, zone: tzinfo) -> DateRange:
    if period := repeat.get("boundsPeriod"):
        own = date_range.of_period(period, zone)
        if own is not None:
            return DateRange(max(own.start, within.start), min(own.end, within.end))
    length = repeat.get("boundsDuration") or (repeat.get("boundsRange") or {}).get("high")
    if length and within.start != EARLIEST:
        end = later(within.start, length, zone)
        return DateRange(within.start, min(within.end, end))
    return within


def later(start: int, length: Mapping[str, Any], zone: tzinfo) -> int:
    """`start` and a Duration behind it; days and longer keep the time on the clock."""
    value, unit = _decimal(length.get("value", 0)), length.get("code") or length.get("unit", "")
    if unit in _ELAPSED or unit not in _FIXED:
        return start + int(value * _ELAPSED.get(unit, 0))
    wall = (datetime(1970, 1, 1, tzinfo=UTC) + start * _MICROSECOND).astimezone(zone)
    if unit in _MONTHS:
        day = _months_later(wall.date(), int(value * _MONTHS[unit]))
        moved = wall.replace(year=day.year, month=day.month, day=day.day)
    else:
        moved = wall + timedelta(days=float(value * (7 if unit == "wk" else 1)))
    return date_range.from_datetime(moved)


def _around_moment(event: str, zone: tzinfo) -> DateRange:
    moment = date_range.parse(event, zone)
    tolerance = 2 * _ELAPSED["h"]
    return DateRange(moment.start - tolerance, moment.start + tolerance)


def _abbreviated(concept: Any) -> Mapping[str, Any]:
    for coding in (concept or {}).get("coding", ()):
        if coding.get("code") in _ABBREVIATIONS:
            return _ABBREVIATIONS[coding["code"]]
    return {}


def _duration(repeat: Mapping[str, Any]) -> int:
    value = repeat.get("durationMax") or repeat.get("duration") or 0
    return int(_decimal(value) * _FIXED.get(repeat.get("durationUnit", ""), 0))


def _minutes(text: str) -> int:
    hours, minutes, *_ = text.split(":")
    return int(hours) * 60 + int(minutes)


def _months_later(day: date, months: int) -> date:
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))


def _decimal(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))
