"""Dates of any precision as half-open ranges of microseconds since 1970 in UTC.

https://hl7.org/fhir/R4/datatypes.html#dateTime
"""

import re
from calendar import isleap, monthrange
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo


class DateRange(NamedTuple):
    """A half-open stretch of time: `start` belongs to it, `end` does not.

    Both are microseconds since 1970-01-01T00:00Z. "2024-03" becomes 1 March up to
    1 April, so two partial dates compare without a special case for the last
    microsecond of a month. A Period without a start or end reaches to `EARLIEST` or
    `LATEST`.
    """

    start: int
    end: int

    def contains(self, other: "DateRange") -> bool:
        """Whether all of `other` lies within this."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: "DateRange") -> bool:
        """Whether the two share a moment."""
        return self.start < other.end and other.start < self.end


EARLIEST = -(2**62)
LATEST = 2**62

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_DAY = 24 * 60 * _MINUTE
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LAST_ORDINAL = date.max.toordinal()

_DATE = re.compile(
    r"(\d{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01])"
    r"(T(?:[01]\d|2[0-3]):[0-5]\d(?::(?:([0-5]\d)|60)(?:\.(\d+))?)?)?"
    r"(Z|[+-](?:0\d|1[0-4]):[0-5]\d)?)?)?",
    re.ASCII,
)


def load_zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name.

    Raises:
        ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no IANA time zone") from None


def parse(text: str, zone: tzinfo) -> DateRange:
    """A date, dateTime or instant, or the part of one that a search may give.

    `zone` is where what has no offset was written. A wall-clock time that the change
    from summer time makes twice covers both; one that the change to summer time skips
    is read with the offset of before. `:60` is the next minute's first second; digits
    behind the microsecond are cut.

    Raises:
        ValueError: `text` is none of these, or no such day exists.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError("not a FHIR date or dateTime")
    year, month, day, clock, seconds, fraction, offset = found.groups()
    if clock is None:
        if offset is not None:
            raise ValueError("a date without a time has no offset")
        return _days(year, month, day, zone)
    if fraction is not None:
        width = 10 ** (6 - min(len(fraction), 6))
    elif len(clock) > 6:
        width = _SECOND
    else:
        width = _MINUTE
    if seconds is None and width != _MINUTE:
        text = text.replace(":60", ":59", 1)
        shift = _SECOND
    else:
        shift = 0
    when = datetime.fromisoformat(text)
    if offset is not None:
        start = (when - _EPOCH) // _MICROSECOND + shift
        return DateRange(start, start + width)
    start, end = _local(when, zone)
    return DateRange(start + shift, end + shift + width)


def _local(when: datetime, zone: tzinfo) -> tuple[int, int]:
    """The first and the last moment at which clocks in `zone` show `when`."""
    first = _microseconds(when.replace(tzinfo=zone))
    last = _microseconds(when.replace(tzinfo=zone, fold=1))
    # Of a skipped time the second reading is the earlier one, before the change.
    return first, max(first, last)


def _days(year: str, month: str | None, day: str | None, zone: tzinfo) -> DateRange:
    y, m = int(year), int(month or 1)
    first = date(y, m, int(day or 1)).toordinal()
    if day is not None:
        after = first + 1
    elif month is not None:
        after = first + monthrange(y, m)[1]
    else:
        after = first + (366 if isleap(y) else 365)
    return DateRange(_midnight(first, zone), _midnight(after, zone))


def _midnight(ordinal: int, zone: tzinfo) -> int:
    """The moment at which the day of that ordinal begins in `zone`."""
    if ordinal > _LAST_ORDINAL:
        return _midnight(_LAST_ORDINAL, zone) + _DAY
    day = date.fromordinal(ordinal)
    return _microseconds(datetime(day.year, day.month, day.day, tzinfo=zone))


def _microseconds(when: datetime) -> int:
    # By hand: subtracting from the epoch would fail in the first and the last hours that
    # a datetime can hold.
    offset = when.utcoffset() or timedelta()
    days = when.toordinal() - _EPOCH_ORDINAL
    seconds = when.hour * 3600 + when.minute * 60 + when.second
    return days * _DAY + seconds * _SECOND + when.microsecond - offset // _MICROSECOND


def from_datetime(when: datetime) -> int:
    """An aware `datetime` as microseconds since 1970 in UTC."""
    if when.tzinfo is None:
        raise ValueError("a datetime without an offset is no moment")
    return (when - _EPOCH) // _MICROSECOND if when.tzinfo is UTC else _microseconds(when)


def to_datetime(microseconds: int) -> datetime:
    """A bound of a range as a moment in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def of_period(period: Mapping[str, Any], zone: tzinfo) -> DateRange | None:
    """A Period from the first moment of its start to the last of its end.

    None if it has neither. One that ends before it starts covers both.

    Raises:
        ValueError: an end of it is no date.
    """
    start, end = period.get("start"), period.get("end")
    if start is None:
        return None if end is None else DateRange(EARLIEST, parse(end, zone).end)
    first = parse(start, zone)
    if end is None:
        return DateRange(first.start, LATEST)
    last = parse(end, zone)
    return DateRange(min(first.start, last.start), max(first.end, last.end))


def of_timing(timing: Mapping[str, Any], zone: tzinfo) -> DateRange | None:
    """The outer bounds of a Timing: its events and its bounding Period; None without them.

    Raises:
        ValueError: one of its dates is none.
    """
    ranges = [parse(event, zone) for event in timing.get("event") or () if event is not None]
    bounds = (timing.get("repeat") or {}).get("boundsPeriod")
    if bounds and (bounded := of_period(bounds, zone)):
        ranges.append(bounded)
    return hull(ranges)


def hull(ranges: Iterable[DateRange]) -> DateRange | None:
    """The shortest range that contains all of `ranges`; None for none."""
    known = tuple(ranges)
    if not known:
        return None
    return DateRange(min(r.start for r in known), max(r.end for r in known))


def approximate(range: DateRange, now: datetime) -> DateRange:  # noqa: A002
    """`range` made wider on both sides by a tenth of its distance from `now`.

    https://hl7.org/fhir/R4/search.html#prefix recommends that for `ap`.
    """
    moment = from_datetime(now)
    distance = max(range.start - moment, moment - range.end, 0)
    return DateRange(range.start - distance // 10, range.end + distance // 10)
