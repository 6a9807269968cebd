"""Nonces of page tokens: random bytes for a key of this process, and a number for each token.

With a key of its own for each token half of the time of sealing would go into its making.
"""

import os
from collections.abc import Iterator
from itertools import count
from secrets import token_bytes

_KEY_BYTES, _NUMBER_BYTES = 16, 8
# Of 2^32 that AES-GCM allows to one key (NIST SP 800-38D, 8.3).
_MOST_OF_A_KEY = 2**24


class PageNonces:
    """Gives each nonce once; any thread may ask."""

    def __init__(self) -> None:
        # Together, so that a number never meets another key than its own.
        self._state: tuple[int, bytes, Iterator[int]] = (0, b"", count())

    def next(self) -> bytes:
        """One that was never given before."""
        process, key, numbers = self._state
        # A process that was forked off would count on from where its parent stood.
        if process != os.getpid() or (number := next(numbers)) >= _MOST_OF_A_KEY:
            key, number = token_bytes(_KEY_BYTES), 0
            self._state = (os.getpid(), key, count(1))
        return key + number.to_bytes(_NUMBER_BYTES, "big")


nonces = PageNonces()
