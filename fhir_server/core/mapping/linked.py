"""Readings that go with a reading: the status bits of its device, the clock that was corrected.

Each is an Observation of its own, found by its identifier like any other.
"""

from typing import NamedTuple

from fhir_server.core.mapping.clock import Stamp, format_datetime
from fhir_server.core.mapping.key import CLOCK_KIND
from fhir_server.core.mapping.reading import IdentifierToken, Measured, Outcome, Reading
from fhir_server.core.mapping.timing import Coincidence


class StatusRule(NamedTuple):
    """Flags that a device says as bits of a status: their Observation beside the reading."""

    number: int
    names: frozenset[str]


def clock_reading(
    coincidence: Coincidence,
    device: IdentifierToken | None,
    patient: IdentifierToken | None,
    stamp: Stamp,
    number: int,
) -> tuple[Reading]:
    """What both clocks showed at one moment, as a reading of the device's.

    It is placed with the first measurement that it corrected: on sending, the device may
    have been handed back.
    """
    now = coincidence.device
    return (
        Reading(
            CLOCK_KIND,
            device,
            patient,
            now.text,
            stamp.measured,
            format_datetime(coincidence.gateway),
            (Measured("now", now.effective),),
            rule=number,
        ),
    )


def derived(reading: Reading, kind: str, outcomes: list[Outcome]) -> Reading:
    """`reading`, resting on what of that kind was found before it in its record."""
    sources = tuple(o for o in outcomes if isinstance(o, Reading) and o.kind == kind)
    return reading._replace(derived_from=(*sources, *reading.derived_from))


def status_readings(reading: Reading, status: StatusRule) -> list[Outcome]:
    """The status that goes with `reading`; empty where no bit of it is set."""
    bits = tuple(Measured(name, True) for name in reading.flags if name in status.names)
    if not bits:
        return []
    return [
        reading._replace(
            kind=f"{reading.kind}-status",
            values=bits,
            flags=(),
            note="",
            rule=status.number,
            derived_from=(reading, *reading.derived_from),
        )
    ]
