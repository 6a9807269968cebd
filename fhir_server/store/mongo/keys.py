"""Index keys: texts whose binary order is the order of what they stand for.

One multikey index serves every search parameter, so each entry of a resource becomes one
text `parameter␟value␟…` in its `x` array. MongoDB compares strings byte by byte
(no collation), and UTF-8 keeps the order of code points. Numbers become texts of the same
order with all their digits, so that no comparison is ever rounded.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from bson.regex import Regex

from fhir_server.core.search.entry import ReferenceEntry

SEPARATOR = "\x1f"
AFTER_SEPARATOR = "\x20"
_ESCAPE = "\x1b"
_LONGEST_PATTERN = 1_000

MARKER = ""
"""The key that every version has: the index walks all of a type in commit order by it."""

WIDE = "~"
"""Suffix of a parameter whose ranges are too wide to be found by where they start."""

STRING_PREFIX = 48
"""How much of a string its key holds; what is longer is compared in the entry itself."""

_DATE_OFFSET = 2**62
_EXPONENT_OFFSET = 50_000
_EXPONENT_LIMIT = 49_999
_COMPLEMENT = str.maketrans("0123456789", "9876543210")


def escape(text: str) -> str:
    """`text` without the separator: two values never run into the same key."""
    if SEPARATOR in text or _ESCAPE in text:
        return text.replace(_ESCAPE, _ESCAPE + _ESCAPE).replace(SEPARATOR, _ESCAPE + "\x1e")
    return text


def pair(parameter: str, value: str, qualifier: str) -> str:
    """The key of a code in a system, an id of a type, a URL of nothing."""
    return f"{parameter}\x1f{escape(value)}\x1f{escape(qualifier)}"


@lru_cache(maxsize=65_536)
def shared_pair(parameter: str, value: str, qualifier: str) -> str:
    """`pair` of what many resources share."""
    return pair(parameter, value, qualifier)


def reference(entry: ReferenceEntry) -> str:
    """The key of a reference to any version."""
    return pair(entry.parameter, entry.resource_id or entry.url, entry.resource_type)


@lru_cache(maxsize=65_536)
def code(value: str, system: str) -> str:
    """A code in a system, as timelines have it."""
    return f"{escape(value)}\x1f{escape(system)}"


def string(parameter: str, folded: str) -> str:
    return f"{parameter}\x1f{folded[:STRING_PREFIX]}"


def date(parameter: str, start: int) -> str:
    return f"{parameter}\x1f{start + _DATE_OFFSET:016x}"


def amount(parameter: str, unit: str, low: str) -> str:
    """The key of a number or quantity; `low` is a text of `ordered`."""
    return f"{parameter}\x1f{escape(unit)}\x1f{low}"


def all_of(parameter: str) -> dict[str, str]:
    """The bounds of every key of `parameter` whose ranges are narrow."""
    return {"$gte": parameter + SEPARATOR, "$lt": parameter + AFTER_SEPARATOR}


def starting_with(prefix: str) -> dict[str, str]:
    """The bounds of every key that starts with `prefix`."""
    bounds = {"$gte": prefix}
    end = _successor(prefix)
    if end:
        bounds["$lt"] = end
    return bounds


def starting_with_any(prefixes: Sequence[str]) -> dict[str, Any] | None:
    """One condition for keys that start with any of `prefixes`; None where a text forbids it.

    An anchored pattern of plain text, without flags, walks the index as its bounds would.
    """
    if any("\0" in prefix or len(prefix) > _LONGEST_PATTERN for prefix in prefixes):
        return None
    return {"$in": [Regex("^" + re.escape(prefix)) for prefix in prefixes]}


def _successor(prefix: str) -> str:
    """The least text behind every one that starts with `prefix`; empty if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # Surrogates are no characters and never stored.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return ""


@lru_cache(maxsize=65_536)
def ordered(number: Decimal) -> str:
    """`number` as a text of the same order, exact; equal numbers give equal texts.

    Magnitudes behind 10^49999 are one: no measurement has them.
    """
    sign, digits, _ = number.as_tuple()
    text = "".join(map(str, digits)).strip("0") if len(digits) > 1 else str(digits[0])
    if not number:
        return "O"
    exponent = max(-_EXPONENT_LIMIT, min(_EXPONENT_LIMIT, number.adjusted()))
    if sign:
        return f"N{_EXPONENT_OFFSET - exponent:05d}{text.translate(_COMPLEMENT)}{WIDE}"
    return f"P{_EXPONENT_OFFSET + exponent:05d}{text}"
