"""Ids of resources: unlike any other process's, and in the order of time."""

import os
from collections import deque
from secrets import token_bytes
from struct import unpack
from time import time_ns

# Random numbers drawn from the system in blocks: a call for each would be most of the
# price of an id. A forked process draws its own.
_drawn: deque[int] = deque()
os.register_at_fork(after_in_child=_drawn.clear)


def new_id() -> str:
    """A time-ordered id (UUIDv7), so that indexes grow at one end. Safe from any thread.

    Behind the milliseconds stands their fraction, in 4096ths: RFC 9562, method 3.
    """
    try:
        random = _drawn.popleft()
    except IndexError:
        random, *others = unpack("=256Q", token_bytes(2_048))
        _drawn.extend(others)
    milliseconds, rest = divmod(time_ns(), 1_000_000)
    fraction = rest * 4_096 // 1_000_000
    random = random & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    text = f"{milliseconds:012x}7{fraction:03x}{random:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
