"""Whether a Period's start comes before its end.

https://hl7.org/fhir/R4/datatypes.html#Period
"""

import re
from datetime import date, datetime, timedelta
from typing import Any

_ZONED = re.compile(r"T.*(?:Z|[+\-][0-9]{2}:[0-9]{2})\Z")
_DAY = timedelta(days=1)


def is_in_order(value: Any) -> bool:
    """False only where the start is surely after the end.

    Partial dates that overlap are in order. A date without a zone means a day in a zone
    nobody named, so beside an exact time it gets a day's grace. What is no date at all
    is another fault and passes here.
    """
    if not isinstance(value, dict):
        return True
    start, end = value.get("start"), value.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return True
    try:
        return _is_in_order(start, end)
    except (ValueError, OverflowError):
        return True


def _is_in_order(start: str, end: str) -> bool:
    is_start_exact, is_end_exact = (_ZONED.search(text) is not None for text in (start, end))
    if is_start_exact and is_end_exact:
        return _moment(start) <= _moment(end)
    if not (start[:4].isdecimal() and end[:4].isdecimal()):
        return True
    if not is_start_exact and not is_end_exact:
        shared = min(len(start), len(end))
        return start[:shared] <= end[:shared]
    shared = min(len(start), len(end), len("2024-01-01"))
    if shared < len("2024-01-01"):
        return start[:shared] <= end[:shared] or _are_neighbours(start, end)
    return date.fromisoformat(start[:shared]) - date.fromisoformat(end[:shared]) <= _DAY


def _are_neighbours(start: str, end: str) -> bool:
    """Whether a date that is exact lies at most a day outside a month or year."""
    exact, other = (start, end) if "T" in start else (end, start)
    day = date.fromisoformat(exact[:10])
    length = len(other)
    return any((day + step).isoformat()[:length] == other for step in (-_DAY, _DAY))


def _moment(text: str) -> tuple[datetime, str]:
    """The second it is in, and the rest of its digits, which compare as text."""
    whole, dot, rest = text.partition(".")
    digits = re.match("[0-9]*", rest)
    fraction = digits[0] if digits else ""
    zone = rest[len(fraction) :] if dot else ""
    # Python knows no leap seconds; the one before will do for an order.
    return datetime.fromisoformat((whole + zone).replace(":60", ":59", 1)), fraction.rstrip("0")
