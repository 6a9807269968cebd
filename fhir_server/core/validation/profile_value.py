"""Fixed, pattern and limiting values: whether a value is what a profile says.

https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_
"""

from datetime import UTC
from decimal import Decimal
from typing import Any

from fhir_server.core import date_range
from fhir_server.core.date_range import DateRange


def equals(value: Any, expected: Any) -> bool:
    """The same value, with nothing beside it."""
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and value.keys() == expected.keys()
            and all(equals(value[name], part) for name, part in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(equals(a, b) for a, b in zip(value, expected, strict=True))
        )
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def contains(value: Any, pattern: Any) -> bool:
    """All that the pattern says, each item of its lists in any place; more may be there."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            name in value and contains(value[name], part) for name, part in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(
            any(contains(item, part) for item in value) for part in pattern
        )
    return equals(value, pattern)


def is_below(value: Any, limit: Any) -> bool:
    """Whether `value` is under `limit`, as far as they can be compared."""
    if isinstance(limit, dict):
        if not isinstance(value, dict) or "value" not in limit or "value" not in value:
            return False
        alike = all(value.get(k) == limit.get(k) for k in ("system", "code") if k in limit)
        return alike and is_below(value["value"], limit["value"])
    if isinstance(limit, str):
        return isinstance(value, str) and _is_text_below(value, limit)
    if isinstance(value, bool) or isinstance(limit, bool):
        return False
    return isinstance(value, int | Decimal) and bool(value < limit)


def is_above(value: Any, limit: Any) -> bool:
    """Whether `value` is over `limit`, as far as they can be compared."""
    if isinstance(limit, dict):
        if not isinstance(value, dict) or "value" not in limit or "value" not in value:
            return False
        alike = all(value.get(k) == limit.get(k) for k in ("system", "code") if k in limit)
        return alike and is_above(value["value"], limit["value"])
    if isinstance(limit, str):
        return isinstance(value, str) and _is_text_below(limit, value)
    if isinstance(value, bool) or isinstance(limit, bool):
        return False
    return isinstance(value, int | Decimal) and bool(value > limit)


def _is_text_below(one: str, other: str) -> bool:
    """Of dates: all of `one` before `other` begins. Times are ordered as texts."""
    if one[2:3] == ":" and other[2:3] == ":":
        return one < other
    first, second = _range(one), _range(other)
    return first is not None and second is not None and first.end <= second.start


def _range(text: str) -> DateRange | None:
    try:
        return date_range.parse(text, UTC)
    except ValueError:
        return None
