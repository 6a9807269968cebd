"""What a gateway may hand in: how many readings a minute, and of which devices."""

from collections.abc import Callable, Sequence
from time import monotonic

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

_ANY = Intake()


class Rates:
    """How much each gateway has left, in this process; several processes give several times it.

    A body is taken whole once it was begun, however many lines it has: the gateway then waits
    until what it took too much is made up for.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def admit(self, principal: Principal | None) -> "Admission":
        """Raises `Throttled`: the gateway has nothing left."""
        if principal is None or principal.intake is None:
            return Admission(_ANY, "", None)
        name, rate = principal.client_id, principal.intake.per_minute
        if rate is None:
            return Admission(principal.intake, name, None)
        left = self._look(name, rate)
        if left < 1:
            seconds = int((1 - left) * 60 / rate) + 1
            raise Throttled("the gateway sends more than was agreed", seconds)
        return Admission(principal.intake, name, lambda number: self._take(name, rate, number))

    def _look(self, name: str, rate: int) -> float:
        left, at = self._left.get(name, (rate * _MINUTES, self._clock()))
        return min(rate * _MINUTES, left + (self._clock() - at) * rate / 60)

    def _take(self, name: str, rate: int, number: int) -> None:
        if name not in self._left and len(self._left) >= _MOST_KNOWN:
            self._left.clear()
        self._left[name] = (self._look(name, rate) - number, self._clock())


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
