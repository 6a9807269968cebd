"""When a record was measured: by the device's stamp, its clock set right, or on arrival.

A stamp is never altered for the key. Where both clocks are known, the gateway's on sending
and the device's at that moment, the measurement's time is corrected by their difference.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fhir_server.core.mapping.clock import Clock, InvalidTimeError, Stamp, format_datetime
from fhir_server.core.mapping.expression import Expression
from fhir_server.core.mapping.reading import Gateway


class Coincidence(NamedTuple):
    """What the device's clock and the gateway's showed at one moment."""

    device: Stamp
    gateway: datetime


class Timed(NamedTuple):
    """A record's time; `stamp.effective` is "" where the device says its clock is at fault."""

    stamp: Stamp
    coincidence: Coincidence | None = None


class TimeRule(NamedTuple):
    """Where the device's time stamp is, and what is beside it.

    `offset` belongs to the stamp, `now` is the device's clock on sending, `fault` says that
    the clock is not to be believed. `is_live`: without a stamp it was measured just now.
    """

    at: Expression
    clock: Clock
    offset: Expression | None = None
    now: Expression | None = None
    fault: Callable[[Any, Any], bool] | None = None
    is_live: bool = False

    def read(self, record: Any, payload: Any, gateway: Gateway) -> Timed:
        """When `record` was measured.

        Raises:
            InvalidTimeError: nobody says so, or nobody can read it.
        """
        raw = self.at(record, payload)
        if self.fault is not None and self.fault(record, payload):
            text = raw if isinstance(raw, str) else format_datetime(_arrival(gateway))
            return Timed(Stamp(text, gateway.received, ""))
        if raw is None or raw == "":
            if not self.is_live:
                raise InvalidTimeError("there is no time stamp")
            arrival = _arrival(gateway)
            text = format_datetime(arrival.astimezone(UTC))
            return Timed(Stamp(text, arrival.astimezone(UTC), format_datetime(arrival)))
        offset = self.offset(record, payload) if self.offset else None
        stamp = self.clock(raw, offset)
        if self.now is None or gateway.sent is None:
            return Timed(stamp)
        now = self.now(record, payload)
        if now is None or now == "":
            return Timed(stamp)
        coincidence = Coincidence(self.clock(now, offset), gateway.sent)
        return Timed(_corrected(stamp, coincidence), coincidence)


def _arrival(gateway: Gateway) -> datetime:
    return gateway.sent or gateway.received


def _corrected(stamp: Stamp, coincidence: Coincidence) -> Stamp:
    # Devices show whole seconds: a finer difference is the way of the message, not the clock.
    apart = (coincidence.gateway - coincidence.device.measured).total_seconds()
    difference = timedelta(seconds=round(apart))
    if not difference:
        return stamp
    try:
        shown = datetime.fromisoformat(stamp.effective) + difference
        return stamp._replace(
            measured=stamp.measured + difference, effective=format_datetime(shown)
        )
    except OverflowError:
        raise InvalidTimeError("the time stamp is out of range") from None
