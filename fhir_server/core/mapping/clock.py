"""The device's time stamp: read, placed in its zone, written for FHIR. The one place that does.

What a device says is one of four things: an epoch (an instant), a text with an offset (an
instant), a local time with its offset or zone beside it, or a bare local time, which takes
the zone of the mapping or of the server's settings.

A zone's clock change is decided here, once: a local time that stands twice (autumn) and one
that does not exist (spring) both take the offset in force before the change. The first is
its first occurrence, the second is what a device shows whose clock was not put forward.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)"
    r"(?:[.,](\d{1,12}))?\s?([Zz]|[-+]\d\d(?::?\d\d)?)?\Z",
    re.ASCII,
)
_OFFSET = re.compile(r"([-+])(\d\d):?(\d\d)?\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock without a zone
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_WIDEST_OFFSET = timedelta(hours=14)
_PER_SECOND = {"epoch-seconds": 1, "wall-clock-seconds": 1}
_PER_MILLISECOND = {"epoch-milliseconds": 1000, "wall-clock-milliseconds": 1000}
_UNITS = _PER_SECOND | _PER_MILLISECOND

FORMATS = (*_UNITS, "iso")
OFFSET_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}


class InvalidTimeError(ValueError):
    """A stamp that cannot be read; the message holds no part of it."""


class Stamp(NamedTuple):
    """When, in three forms.

    `text` is what the device said, in one spelling: the instant in UTC where it named one,
    else its wall clock without an offset. `effective` is the FHIR dateTime.
    """

    text: str
    measured: datetime
    effective: str


Clock = Callable[[Any, Any], Stamp]
"""(the stamp as it stands in the payload, the offset beside it or None) -> Stamp"""


def compile_clock(written: str, zone: str, offset_unit: str = "") -> Clock:
    """How to read stamps.

    Args:
        written: one of `FORMATS`, or a strptime pattern.
        zone: the IANA zone of a local time that comes without an offset.
        offset_unit: of an offset that is a number; "" refuses numbers.

    Raises:
        InvalidTimeError: no such zone.
    """
    default = zone_of(zone)
    if written in _UNITS:
        per_second = _UNITS[written]
        if written.startswith("epoch"):
            return lambda raw, offset: _at_instant(_wall(raw, per_second), offset, offset_unit)
        return lambda raw, offset: _at_wall_clock(
            _wall(raw, per_second), offset, offset_unit, default
        )
    if written == "iso":
        return lambda raw, offset: _at(_parse_iso(raw), offset, offset_unit, default)
    return lambda raw, offset: _at(_parse_pattern(raw, written), offset, offset_unit, default)


def zone_of(name: str) -> tzinfo:
    """The zone of that IANA name.

    Raises:
        InvalidTimeError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidTimeError(f"there is no time zone {name}") from None


def format_datetime(when: datetime) -> str:
    """`when`, which is aware, as a FHIR dateTime: whole offsets, no empty fraction."""
    text = when.isoformat()
    if when.microsecond:
        text = text[:19] + "." + text[20:26].rstrip("0") + text[26:]
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _at_instant(wall: datetime, offset: Any, offset_unit: str) -> Stamp:
    """`wall` is UTC; an offset beside it only says how to write it."""
    instant = wall.replace(tzinfo=UTC)
    text = format_datetime(instant)
    if offset is None or offset == "":
        return Stamp(text, instant, text)
    local = _shifted(instant, _parse_offset(offset, offset_unit))
    return Stamp(text, instant, format_datetime(local))


def _at_wall_clock(wall: datetime, offset: Any, offset_unit: str, default: tzinfo) -> Stamp:
    if offset is None or offset == "":
        local = _placed(wall, default)
        return Stamp(wall.isoformat(), local.astimezone(UTC), format_datetime(local))
    local = _placed(wall, _parse_offset(offset, offset_unit))
    instant = local.astimezone(UTC)
    return Stamp(format_datetime(instant), instant, format_datetime(local))


def _at(read: datetime, offset: Any, offset_unit: str, default: tzinfo) -> Stamp:
    if read.tzinfo is None:
        return _at_wall_clock(read, offset, offset_unit, default)
    try:
        instant = _checked(read.astimezone(UTC))
    except OverflowError:
        raise InvalidTimeError("the time stamp is out of range") from None
    effective = format_datetime(read)
    text = effective if read.tzinfo is UTC else format_datetime(instant)
    return Stamp(text, instant, effective)


def _placed(wall: datetime, zone: tzinfo) -> datetime:
    """`wall` in `zone`, with the offset written out; fold 0 is the offset before a change."""
    try:
        offset = wall.replace(tzinfo=zone, fold=0).utcoffset() or timedelta(0)
        local = wall.replace(tzinfo=timezone(_whole_minutes(offset)), fold=0)
        _checked(local.astimezone(UTC))
    except OverflowError:
        raise InvalidTimeError("the time stamp is out of range") from None
    return local


def _shifted(instant: datetime, zone: tzinfo) -> datetime:
    try:
        offset = instant.astimezone(zone).utcoffset() or timedelta(0)
        return instant.astimezone(timezone(_whole_minutes(offset)))
    except OverflowError:
        raise InvalidTimeError("the time stamp is out of range") from None


def _whole_minutes(offset: timedelta) -> timedelta:
    # FHIR writes hours and minutes only; zones had odd seconds until about 1920.
    return timedelta(minutes=round(offset.total_seconds() / 60))


def _checked(instant: datetime) -> datetime:
    if instant < _EARLIEST:
        raise InvalidTimeError("the time stamp is out of range")
    return instant


def _wall(raw: Any, per_second: int) -> datetime:
    """The wall clock that `raw` counts from 1970; a text of digits counts as a number."""
    if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) <= 20:
        raw = int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        raise InvalidTimeError("the time stamp is no number")
    try:
        if isinstance(raw, int):
            wall = _EPOCH + timedelta(microseconds=raw * (1_000_000 // per_second))
        else:
            exact = raw if isinstance(raw, Decimal) else Decimal(repr(raw))
            wall = _EPOCH + timedelta(microseconds=int(exact * (1_000_000 // per_second)))
    except (OverflowError, ValueError, ArithmeticError):
        raise InvalidTimeError("the time stamp is out of range") from None
    if wall <= _EPOCH:
        # A device whose clock was never set; no measurement was taken in 1970.
        raise InvalidTimeError("the device's clock was not set")
    return wall


def _parse_iso(raw: Any) -> datetime:
    found = _ISO.match(raw) if isinstance(raw, str) else None
    if found is None:
        raise InvalidTimeError("the time stamp is no ISO 8601 date and time")
    day, time, fraction, offset = found.groups()
    if len(time) == 5:
        time += ":00"
    text = f"{day}T{time}.{fraction[:6]}" if fraction else f"{day}T{time}"
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidTimeError("the time stamp is no date and time that exists") from None
    return read if offset is None else read.replace(tzinfo=_fixed(offset))


def _parse_pattern(raw: Any, pattern: str) -> datetime:
    if not isinstance(raw, str):
        raise InvalidTimeError("the time stamp is no text")
    try:
        return datetime.strptime(raw, pattern)  # noqa: DTZ007 - the zone is placed by the caller
    except ValueError:
        raise InvalidTimeError("the time stamp is not written as the mapping says") from None


def _parse_offset(raw: Any, unit: str) -> tzinfo:
    """An offset ("-0600", "+03:00", "Z"), a number in `unit`, or an IANA zone."""
    if isinstance(raw, str):
        if _OFFSET.match(raw) or raw in ("Z", "z"):
            return _fixed(raw)
        if unit and raw.lstrip("+-").isdigit() and len(raw) <= 7:
            raw = int(raw)
        else:
            return _named(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | Decimal) or not unit:
        raise InvalidTimeError("the offset of the time stamp cannot be read")
    number = Decimal(raw)
    if not -100_000 <= number <= 100_000:
        raise InvalidTimeError("the offset of the time stamp is out of range")
    return _bounded(timedelta(seconds=float(number * OFFSET_UNITS[unit])))


def _named(raw: str) -> tzinfo:
    # A zone's name holds letters, so a broken offset is not looked up as one.
    if not raw[:1].isalpha():
        raise InvalidTimeError("the offset of the time stamp cannot be read")
    try:
        return zone_of(raw)
    except InvalidTimeError:
        raise InvalidTimeError("the time stamp names a zone that does not exist") from None


@lru_cache(maxsize=256)
def _fixed(text: str) -> tzinfo:
    found = _OFFSET.match(text)
    if found is None:
        return UTC
    sign, hours, minutes = found.groups()
    if int(minutes or 0) > 59:
        raise InvalidTimeError("the offset of the time stamp is out of range")
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return _bounded(-offset if sign == "-" else offset)


def _bounded(offset: timedelta) -> tzinfo:
    if abs(offset) > _WIDEST_OFFSET:
        raise InvalidTimeError("the offset of the time stamp is out of range")
    return timezone(_whole_minutes(offset))
