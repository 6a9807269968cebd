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
        self._state: tuple[bytes, Iterator[int]] = (token_bytes(_KEY_BYTES), count())
        # A process that is forked off would count on from where its parent stands.
        os.register_at_fork(after_in_child=self._renew)

    def next(self) -> bytes:
        """One that was never given before."""
        key, numbers = self._state
        number = next(numbers)
        if number >= _MOST_OF_A_KEY:
            self._renew()
            return self.next()
        return key + number.to_bytes(_NUMBER_BYTES, "big")

    def _renew(self) -> None:
        self._state = (token_bytes(_KEY_BYTES), count())


nonces = PageNonces()
