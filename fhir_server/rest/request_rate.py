"""How many requests a minute each client may send, counted in this process."""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic

from fhir_server.errors import Throttled

_MOST_KNOWN = 100_000
# What a client that was silent may send at once, in seconds of its rate.
_BURST_SECONDS = 10.0


class RequestRate:
    """A bucket a client, which fills up with `per_minute`; 0 is without a limit."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self._per_second = per_minute / 60
        self._most = max(1.0, self._per_second * _BURST_SECONDS)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, name: str) -> None:
        """One more request of this client.

        Raises:
            Throttled: it was one too many, and is not counted.
        """
        if not self._per_second:
            return
        now = self._clock()
        left, at = self._left.pop(name, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_second)
        is_over = left < 1
        # Whoever was not heard of for longest has a full bucket soonest.
        if len(self._left) >= _MOST_KNOWN:
            self._left.popitem(last=False)
        self._left[name] = (left if is_over else left - 1, now)
        if is_over:
            seconds = max(1, ceil((1 - left) / self._per_second))
            raise Throttled("this client sends more requests than it may", seconds)
