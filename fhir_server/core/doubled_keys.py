"""Doubled keys: a JSON object that says one thing twice.

The parser keeps the last and does not tell. Counting keys before and after shows at the
price of a copy that nothing was lost; only a text that is out of the ordinary is read again.
"""

import json
import re
from typing import Any

# What `":` does not count: a key apart from its colon, a text that begins with an escape
# (it may be a colon), a key that ends with a backslash. One search each: together they are
# several times slower.
_APART = re.compile(rb'"\s+:')
_ESCAPED_AT_ONCE = re.compile(rb'"(?<!\\")\s*\\')
_BACKSLASH_LAST = b'\\\\"'
_PLAIN_NAME = re.compile(r"\w+\Z", re.ASCII)


def may_have(body: bytes, written: bytes) -> bool:
    """Whether JSON `body` may have a doubled key; `written` is what the parser made of it."""
    return (
        _colons(body) != _colons(written)
        or _APART.search(body) is not None
        or (
            b"\\" in body and (_BACKSLASH_LAST in body or _ESCAPED_AT_ONCE.search(body) is not None)
        )
    )


def find(body: bytes) -> str | None:
    """The path of the first key of `body` that its object has twice."""
    value = json.loads(body, object_pairs_hook=_of_pairs, parse_int=_unread, parse_float=_unread)
    return _find_in(value)


def _unread(_number: str) -> None:
    """Numbers may be longer than is quick to read, and have no keys."""


class _Doubled(dict[str, Any]):
    """An object that had `key` more than once."""

    key: str = ""


def _of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled = _Doubled(found)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            doubled.key = key
            break
        seen.add(key)
    return doubled


def _find_in(root: Any) -> str | None:
    start = root.get("resourceType", "") if isinstance(root, dict) else ""
    waiting = [(root, _below("", start) if isinstance(start, str) else "")]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, _Doubled):
            return _below(path, value.key)
        if isinstance(value, dict):
            waiting.extend((each, _below(path, key)) for key, each in value.items())
        elif isinstance(value, list):
            waiting.extend((each, f"{path}[{n}]") for n, each in enumerate(value))
    return None


def _below(path: str, key: str) -> str:
    # What is no name of an element may be anything, a patient's data too.
    if _PLAIN_NAME.match(key) is None or len(key) > 64:
        return path
    return f"{path}.{key}" if path else key


def _colons(text: bytes) -> int:
    """Keys, and texts that begin with a colon, which both sides have."""
    return text.count(b'":') - text.count(b'\\":')
