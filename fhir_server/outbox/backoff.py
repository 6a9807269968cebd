"""How long to wait before the next attempt: exponential, with full jitter and a cap."""

from typing import NamedTuple


class Backoff(NamedTuple):
    """Waits between attempts, in seconds: anywhere up to `base` after the first failure,
    up to twice that after the next, never more than `cap`.

    Full jitter: many deliveries that failed together must not come back together.
    `retry_after_cap` bounds what a receiver may ask for.
    """

    base: float
    cap: float
    retry_after_cap: float = 3_600.0

    def delay(self, failures: int, chance: float, retry_after: float | None = None) -> float:
        """The wait after `failures` failures in a row.

        Args:
            failures: at least 1.
            chance: anywhere from 0 up to 1; the caller throws the dice.
            retry_after: seconds the receiver asked for. It is waited out in full, and the
                jitter comes on top, for others were told the same.
        """
        # Beyond 2**32 the cap has long decided; a larger power would overflow a float.
        ceiling = min(self.cap, self.base * 2.0 ** min(failures - 1, 32))
        jittered = ceiling * chance
        if retry_after is None:
            return jittered
        return min(max(retry_after, 0.0), self.retry_after_cap) + min(jittered, self.base)
