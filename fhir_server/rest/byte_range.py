"""Byte ranges: the part of a file that a client asks for.

https://www.rfc-editor.org/rfc/rfc9110#section-14
"""

import re
from typing import NamedTuple

_ONE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*\Z", re.ASCII)


class ByteRange(NamedTuple):
    """From `start`, which belongs to it, to `end`, which does not."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return max(0, self.end - self.start)


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The one range that a header names, within `size` bytes; empty if it is beyond them.

    None for what is no such range, or several: the whole is the answer to that.
    """
    found = _ONE.match(header or "")
    if found is None:
        return None
    first, last = found.groups()
    if not first:
        return ByteRange(max(0, size - int(last)), size) if last else None
    start = int(first)
    if last and int(last) < start:
        return None
    return ByteRange(min(start, size), min(int(last) + 1, size) if last else size)
