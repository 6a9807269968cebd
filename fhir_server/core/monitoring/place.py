"""Placing: whose a reading is, decided from the assignment book or not at all.

The patient is the one who had the device when it measured. A name in the payload can
contradict that, it never decides it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Fault, IdentifierToken, QuarantineReason, Reading
from fhir_server.core.monitoring.assignment import (
    DeviceRecord,
    Plan,
    holders,
    is_named,
)
from fhir_server.core.monitoring.assignment_book import AssignmentBook


class Placed(NamedTuple):
    """Where a reading belongs, and what is decided only once its code is known.

    `aliases` are the device's other identifiers: the reading may have been stored under
    one of them before the Device's identifiers were put in another order. `former` are
    patients under whom it may have been stored before an assignment was corrected.
    `plans` are the patient's active ones.
    """

    placement: Placement
    instant: int
    aliases: tuple[IdentifierToken, ...] = ()
    plans: tuple[Plan, ...] = ()
    former: tuple[ResourceKey, ...] = ()

    def other_placements(self) -> Iterator[Placement]:
        """Under what else the same reading may have been stored."""
        if not self.aliases and not self.former:
            return
        own = self.placement
        for device in (own.device_identifier, *self.aliases):
            for patient in (own.patient, *self.former):
                other = own._replace(device_identifier=device, patient=patient)
                if other != own:
                    yield other


def place(reading: Reading, book: AssignmentBook) -> Placed | Fault:
    """The place of `reading`; every name it needs is in `book`."""
    if reading.device is None:
        return Fault(QuarantineReason.DEVICE_MISSING, "neither payload nor gateway names a device")
    named = book.named(reading.device)
    if not named:
        return Fault(QuarantineReason.DEVICE_UNKNOWN, "no Device has the identifier")
    if len(named) > 1:
        return Fault(QuarantineReason.DEVICE_AMBIGUOUS, f"{len(named)} Devices have the identifier")
    return _place_on(reading, named[0], book)


def _place_on(reading: Reading, device: DeviceRecord, book: AssignmentBook) -> Placed | Fault:
    instant = date_range.from_datetime(reading.measured)
    patients = holders(device.assignments, instant)
    if not patients:
        return Fault(
            QuarantineReason.DEVICE_NOT_ASSIGNED, f"nobody had {device.key} when it measured"
        )
    if len(patients) > 1:
        return Fault(
            QuarantineReason.ASSIGNMENT_AMBIGUOUS,
            f"{len(patients)} patients had {device.key} when it measured",
        )
    (key,) = patients
    patient = book.patient(key)
    if patient is None:
        return Fault(
            QuarantineReason.DEVICE_NOT_ASSIGNED, f"{device.key} is assigned to no Patient"
        )
    if reading.patient is not None and not is_named(patient, reading.patient):
        return Fault(
            QuarantineReason.PATIENT_MISMATCH,
            f"the patient named is not the one who had {device.key} when it measured",
        )
    placement = Placement(
        patient=key,
        device=device.key,
        device_identifier=device.identifiers[0],
        is_auxiliary=device.is_auxiliary,
    )
    return Placed(placement, instant, device.identifiers[1:], patient.plans, device.former)
