"""Lanes: who may be sent to now, so that a dead or slow endpoint delays nobody else.

Each subscription has a lane and takes at most one thread. Those that were slow or failed
last share half of the threads, whatever their number: the other half is always free for
the rest. An endpoint that gave no answer, or fails whoever asks, is left alone as a whole.
"""

from typing import NamedTuple

SLOW = 2.0
"""Seconds that a sending may take before its lane is a suspect one."""

BROKEN_AFTER = 5
"""Failures in a row, of all its subscriptions together, before an endpoint is left alone."""

_LONGEST = 3_600.0


class _Lane(NamedTuple):
    is_busy: bool = False
    is_suspect: bool = False
    paused_until: float = 0.0


class Lanes:
    """Times are of a monotonic clock. One thread at a time."""

    def __init__(self, threads: int) -> None:
        self._most_suspects = max(1, threads // 2)
        self._most = threads
        self._lanes: dict[str, _Lane] = {}
        self._silent: dict[str, tuple[int, float]] = {}
        self._failing: dict[str, int] = {}

    def take(self, name: str, endpoint: str, now: float) -> bool:
        """Whether `name` may be sent to; it is busy from then on."""
        lane = self._lanes.get(name, _Lane())
        if lane.is_busy or now < lane.paused_until or now < self._silent.get(endpoint, (0, 0.0))[1]:
            return False
        busy = [each for each in self._lanes.values() if each.is_busy]
        if len(busy) >= self._most:
            return False
        is_suspect = lane.is_suspect or endpoint in self._silent
        if is_suspect and sum(each.is_suspect for each in busy) >= self._most_suspects:
            return False
        self._lanes[name] = lane._replace(is_busy=True, is_suspect=is_suspect)
        if endpoint in self._silent:
            # One of them finds out for all whether it answers again.
            failures, _ = self._silent[endpoint]
            self._silent[endpoint] = (failures, now + _wait(failures))
        return True

    def give_back(self, name: str, endpoint: str, now: float, *, pause: float, took: float) -> None:
        """`name` was sent to. `pause` is how long to leave it alone, 0.0 if all went well."""
        is_suspect = pause > 0 or took > SLOW
        if is_suspect:
            self._lanes[name] = _Lane(False, True, now + pause)
        else:
            self._lanes.pop(name, None)
        if not pause:
            self.succeed(endpoint)

    def silence(self, endpoint: str, now: float) -> None:
        """`endpoint` gave no answer: leave it alone, longer each time."""
        failures = self._silent.get(endpoint, (0, 0.0))[0] + 1
        self._silent[endpoint] = (failures, now + _wait(failures))

    def succeed(self, endpoint: str) -> None:
        """`endpoint` took something: its failures were not in a row."""
        self._silent.pop(endpoint, None)
        self._failing.pop(endpoint, None)

    def next_end(self, now: float) -> float | None:
        """The seconds until the first that is left alone may be sent to; None without one."""
        ends = [lane.paused_until for lane in self._lanes.values() if not lane.is_busy]
        ends += [until for _, until in self._silent.values()]
        return min((end - now for end in ends if end > now), default=None)

    def fail(self, endpoint: str, now: float, retry_after: float | None) -> None:
        """`endpoint` answered that it cannot; `retry_after` are the seconds it asks for."""
        failures = self._failing.get(endpoint, 0) + 1
        self._failing[endpoint] = failures
        if retry_after:
            self._silent[endpoint] = (failures, now + min(retry_after, _LONGEST))
        elif failures >= BROKEN_AFTER:
            self._silent[endpoint] = (failures, now + _wait(failures - BROKEN_AFTER))

    def forget(self, name: str) -> None:
        """`name` is no more."""
        lane = self._lanes.get(name)
        if lane is not None and not lane.is_busy:
            del self._lanes[name]


def _wait(failures: int) -> float:
    return min(0.05 * 2.0 ** min(failures, 10), 30.0)
