"""A reading: a measurement before it is FHIR, and what became of it.

Stage one of a mapping turns a payload into these, stage two turns each into a
resource once its place (whose, from which device) is known.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple


class IdentifierToken(NamedTuple):
    """`system|value`; a system of None is not known, so any system may match."""

    system: str | None
    value: str


class Gateway(NamedTuple):
    """What the sender of a payload knows beside it. Times are aware."""

    received: datetime
    device: IdentifierToken | None = None
    patient: IdentifierToken | None = None
    sent: datetime | None = None
    gateway_id: str = ""


class Samples(NamedTuple):
    """A trace: `data` as FHIR's SampledData has it, a sample every `period` milliseconds."""

    period: Decimal
    data: str


class Measured(NamedTuple):
    """One value of a reading in the unit it will be stored in, or why there is none.

    `name` is the rule's name for it ("systolic"). `unit` is a UCUM code. `comparator` is
    ``<``, ``>`` or "". `absent` is a code of data-absent-reason, set where `value` is None.
    `value` is a text where the value is a word: one that the rule knows, or the device's
    own, and a trace where many were taken. `original` and `original_unit` are what the
    device said before a conversion.
    """

    name: str
    value: Decimal | str | bool | Samples | None
    unit: str = ""
    comparator: str = ""
    absent: str = ""
    original: Decimal | None = None
    original_unit: str = ""


class Reading(NamedTuple):
    """A measurement.

    `kind` is the rule that found it ("blood-pressure"). `device` and `patient` are as the
    payload, or the gateway, named them. `stamp` is the device's own time stamp,
    uncorrected, as text: part of the reading's key. `measured` is the corrected, aware
    time; `effective` the FHIR dateTime written for it. `duration` is in seconds.
    `flags` and `supplements` are names that the rule gives a meaning. `rule` is the rule's
    place in its mapping: two rules may find the same kind (a pulse by cuff, by oximeter).
    `effective` is "" where the device's clock was at fault; `measured` is then when the
    reading came. `focus` is what of the patient was measured, where it is not the patient
    ("fetus 1"). `derived_from` are readings of the same record that this one rests on.
    """

    kind: str
    device: IdentifierToken | None
    patient: IdentifierToken | None
    stamp: str
    measured: datetime
    effective: str
    values: tuple[Measured, ...]
    duration: Decimal = Decimal(0)
    flags: tuple[str, ...] = ()
    supplements: tuple[str, ...] = ()
    note: str = ""
    rule: int = 0
    focus: str = ""
    derived_from: tuple["Reading", ...] = ()


class Ignored(NamedTuple):
    """Something in the payload that is not a measurement: a goal, a placeholder."""

    reason: str


class QuarantineReason(StrEnum):
    """Why a reading, or a payload, could not be placed yet."""

    MALFORMED = "malformed-payload"
    INVALID_PAYLOAD = "invalid-payload"
    UNKNOWN_KIND = "unknown-kind"
    INVALID_TIME = "invalid-time"
    INVALID_VALUE = "invalid-value"
    IMPLAUSIBLE = "implausible"
    MAPPING_BROKEN = "mapping-broken"
    DEVICE_MISSING = "device-missing"
    DEVICE_UNKNOWN = "device-unknown"
    DEVICE_AMBIGUOUS = "device-ambiguous"
    DEVICE_MISMATCH = "device-mismatch"
    DEVICE_NOT_OF_GATEWAY = "device-not-of-gateway"
    DEVICE_NOT_ASSIGNED = "device-not-assigned"
    ASSIGNMENT_AMBIGUOUS = "assignment-ambiguous"
    PATIENT_MISMATCH = "patient-mismatch"
    USER_AMBIGUOUS = "user-ambiguous"
    CONFLICT = "conflict"
    INVALID_RESOURCE = "invalid-resource"


class Fault(NamedTuple):
    """Something that cannot become a reading; `detail` holds no patient data."""

    reason: QuarantineReason
    detail: str


Outcome = Reading | Ignored | Fault


class Verdict(StrEnum):
    """What was decided about a reading. https://pmp.example/fhir/CodeSystem/verdict"""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    IGNORED = "ignored"
