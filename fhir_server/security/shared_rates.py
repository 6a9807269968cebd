"""SharedRates: what gateways have left of their rates, counted by all processes together."""

from collections.abc import Callable
from datetime import datetime, timedelta

from fhir_server.store.security.protocol import Document, SecurityStore

_KIND = "rate"
# What was spent a minute ago is made up for: a count may be forgotten long before this.
_KEPT = timedelta(days=30)


class SharedRates:
    """Calls wait for the store: told of in portions, not of every reading."""

    def __init__(self, store: SecurityStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def spend(self, name: str, rate: int, number: float) -> float:
        """Take `number` of what is left of `rate` a minute; what is left then, perhaps a debt."""
        moment = self._now()
        now = moment.timestamp()

        def decide(found: Document | None) -> Document | None:
            if found is None:
                return None
            # Clocks of two machines differ.
            filled = found["left"] + max(0.0, now - found["at"]) * rate / 60
            return {"left": min(float(rate), filled) - number, "at": max(now, found["at"])}

        while True:
            made = self._store.amend(_KIND, name, decide)
            if made is not None:
                left: float = made["left"]
                return left
            first = {"left": rate - number, "at": now}
            # Another process may have been first.
            if self._store.keep(_KIND, name, first, moment + _KEPT):
                return float(rate - number)
