"""What a gateway may hand in: how many readings a minute, and of which devices."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple, Protocol

from fhir_server.core.mapping.reading import (
    Fault,
    IdentifierToken,
    Outcome,
    QuarantineReason,
    Reading,
)
from fhir_server.core.security.principal import Intake, Principal
from fhir_server.errors import Throttled
from fhir_server.operations.ingest_readings import ReadPayload

_MOST_KNOWN = 100_000
# What a gateway may save up while it is silent.
_MINUTES = 1.0
# Of a rate, what a process spends before it tells the others.
_PORTION = 0.05

_ANY = Intake()


class Spending(Protocol):
    """Counts for all processes together; waits for a disk, or another machine."""

    def spend(self, name: str, rate: int, number: float) -> float:
        """Take `number` of what is left of `rate` a minute; what is left then."""
        ...


class _Known(NamedTuple):
    """What this process knows of a gateway: `untold` is what the others do not know yet."""

    left: float
    at: float
    untold: float = 0.0


class Rates:
    """How much each gateway has left.

    A body is taken whole once it was begun, however many lines it has: the gateway then waits
    until what it took too much is made up for. Processes tell each other of a twentieth of the
    rate at a time, so together they give that much more each, and not the whole rate again.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def admit(
        self, principal: Principal | None, shared: Spending | None = None
    ) -> "Admission":
        """Raises `Throttled`: the gateway has nothing left."""
        if principal is None or principal.intake is None:
            return Admission(_ANY, "", None)
        name, rate = principal.client_id, principal.intake.per_minute
        if rate is None:
            return Admission(principal.intake, name, None)
        if shared is not None:
            await self._tell(name, rate, shared)
        left = self._look(name, rate).left
        if left < 1:
            seconds = int((1 - left) * 60 / rate) + 1
            raise Throttled("the gateway sends more than was agreed", seconds)
        return Admission(principal.intake, name, lambda number: self._take(name, rate, number))

    async def _tell(self, name: str, rate: int, shared: Spending) -> None:
        known = self._known.get(name)
        untold = 0.0 if known is None else known.untold
        if known is not None and untold < max(1.0, rate * _PORTION):
            return
        if known is not None:
            # Told once: who comes meanwhile has nothing to tell.
            self._known[name] = known._replace(untold=0.0)
        try:
            left = await asyncio.to_thread(shared.spend, name, rate, untold)
        except BaseException:
            if known is not None:
                now = self._look(name, rate)
                self._keep(name, now._replace(untold=now.untold + untold))
            raise
        meanwhile = self._look(name, rate).untold
        self._keep(name, _Known(left - meanwhile, self._clock(), meanwhile))

    def _look(self, name: str, rate: int) -> _Known:
        now = self._clock()
        known = self._known.get(name) or _Known(rate * _MINUTES, now)
        filled = known.left + (now - known.at) * rate / 60
        return _Known(min(rate * _MINUTES, filled), now, known.untold)

    def _take(self, name: str, rate: int, number: int) -> None:
        known = self._look(name, rate)
        self._keep(name, _Known(known.left - number, known.at, known.untold + number))

    def _keep(self, name: str, known: _Known) -> None:
        if name not in self._known and len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[name] = known


class Admission:
    """Of one request. `gateway_id` is the name that the sender has proven, "" if none."""

    def __init__(self, intake: Intake, gateway_id: str, take: Callable[[int], None] | None) -> None:
        self.gateway_id = gateway_id
        self._devices = intake.devices
        self._take = take

    def limit(self, payloads: Sequence[ReadPayload]) -> Sequence[ReadPayload]:
        """Count them; readings of devices that are not the gateway's become faults.

        They are kept aside like others that cannot be placed: a person may know better.
        """
        if self._take is not None:
            self._take(len(payloads))
        if not self._devices:
            return payloads
        return [
            each._replace(outcomes=tuple(self._checked(outcome) for outcome in each.outcomes))
            for each in payloads
        ]

    def _checked(self, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Reading) or self._is_bound(outcome.device):
            return outcome
        return Fault(
            QuarantineReason.DEVICE_NOT_OF_GATEWAY,
            "the gateway's key is not for this device",
        )

    def _is_bound(self, device: IdentifierToken | None) -> bool:
        if device is None:
            return False
        # Without a system it may be anybody's device of that value: `|value` says that it may.
        names = {f"{device.system or ''}|{device.value}"}
        if device.system:
            names.add(f"{device.system}|")
        return bool(names & self._devices)
