"""Stage one: the compiled rules of a mapping, and how they turn a payload into readings.

A record rule finds records in a payload; each record has one time, device and patient and
may hold several readings. A fault in one value stops that reading alone, a fault in the
time stops its record alone.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.mapping.clock import Clock, InvalidTimeError, Stamp
from fhir_server.core.mapping.expression import Expression
from fhir_server.core.mapping.normalize import Amount, InvalidValueError, parse_number, word
from fhir_server.core.mapping.reading import (
    Fault,
    Gateway,
    IdentifierToken,
    Ignored,
    Measured,
    Outcome,
    QuarantineReason,
    Reading,
)

Condition = Callable[[Any, Any], bool]

# A wall clock read in a wrong zone is at most this far ahead; beyond it the clock is wrong.
FUTURE_TOLERANCE = timedelta(days=1)

NOT_TAKEN = Ignored("placeholder")
NOTHING = Ignored("no-readings")


class IgnoreRule(NamedTuple):
    """What is not a measurement, and how to say so."""

    when: Condition
    outcome: Ignored


class Name(NamedTuple):
    """A flag or a supplement that a reading has when a condition holds."""

    name: str
    when: Condition


class IdentifierRule(NamedTuple):
    """Where a payload names a device or a patient."""

    value: Expression
    system: str | None = None
    system_at: Expression | None = None

    def read(self, record: Any, payload: Any) -> IdentifierToken | None:
        value = plain_text(self.value(record, payload))
        if not value:
            return None
        if self.system_at is None:
            return IdentifierToken(self.system, value)
        return IdentifierToken(plain_text(self.system_at(record, payload)) or None, value)


class TimeRule(NamedTuple):
    """Where the device's time stamp is, and the offset beside it."""

    at: Expression
    clock: Clock
    offset: Expression | None = None

    def read(self, record: Any, payload: Any) -> Stamp:
        raw = self.at(record, payload)
        if raw is None:
            raise InvalidTimeError("there is no time stamp")
        return self.clock(raw, self.offset(record, payload) if self.offset else None)


class DurationRule(NamedTuple):
    """How long the measurement took; `seconds` is how many its unit has."""

    at: Expression
    seconds: Decimal

    def read(self, record: Any, payload: Any) -> Decimal:
        raw = self.at(record, payload)
        if raw is None:
            return Decimal(0)
        duration = parse_number(raw) * self.seconds
        if duration < 0:
            raise InvalidValueError("the duration is negative")
        return duration


class ValueRule(NamedTuple):
    """One value. Either `amount` is set, or `words`: from the vendor's words to the rule's.

    `is_required` is a component that is written even where it was not taken.
    """

    name: str
    where: str
    find: Expression
    amount: Amount | None
    words: Mapping[str, str] | None = None
    is_required: bool = False

    def read(self, record: Any, payload: Any) -> Measured | None:
        raw = self.find(record, payload)
        if self.amount is not None:
            return self.amount.read(raw, record, payload)
        text = word(raw)
        if not text:
            return None
        return Measured(self.name, (self.words or {}).get(text, text))


class ReadingRule(NamedTuple):
    """One kind of reading in a record. `value` is None for a panel."""

    number: int
    kind: str
    when: Condition | None
    value: ValueRule | None
    components: tuple[ValueRule, ...] = ()
    flags: tuple[Name, ...] = ()

    def read(self, record: Any, payload: Any) -> tuple[Measured, ...]:
        """The values; empty where nothing was taken.

        Raises:
            InvalidReadingError: one of them cannot be read.
        """
        values: list[Measured] = []
        if self.value is not None:
            found = _read(self.value, record, payload)
            if found is None:
                return ()
            values.append(found)
        is_taken = self.value is not None
        for rule in self.components:
            found = _read(rule, record, payload)
            if found is not None:
                is_taken = is_taken or rule.is_required
                values.append(found)
            elif rule.is_required:
                values.append(Measured(rule.name, None, absent="unknown"))
        return tuple(values) if is_taken else ()


class RecordRule(NamedTuple):
    """Where records are and what they share. `each_path` is set where `each` is a plain path."""

    when: Condition | None
    each: Expression | None
    each_path: tuple[str, ...] | None
    time: TimeRule
    readings: tuple[ReadingRule, ...]
    ignore: tuple[IgnoreRule, ...] = ()
    duration: DurationRule | None = None
    device: IdentifierRule | None = None
    patient: IdentifierRule | None = None
    note: Expression | None = None
    flags: tuple[Name, ...] = ()
    supplements: tuple[Name, ...] = ()

    def records(self, payload: Any) -> list[Any] | None:
        """The records; None where this rule is not about `payload`."""
        if self.when is not None and not self.when(payload, payload):
            return None
        if self.each is None:
            return [payload]
        found = self.each(payload, payload)
        if isinstance(found, list):
            return found
        return None

    def read(self, record: Any, payload: Any, gateway: Gateway) -> list[Outcome]:
        """What one record holds; never empty."""
        for ignored in self.ignore:
            if ignored.when(record, payload):
                return [ignored.outcome]
        shared = self._read_shared(record, payload, gateway)
        if isinstance(shared, Fault):
            return [shared]
        outcomes: list[Outcome] = []
        is_any_asked = False
        for rule in self.readings:
            if rule.when is not None and not rule.when(record, payload):
                continue
            is_any_asked = True
            try:
                values = rule.read(record, payload)
            except InvalidReadingError as error:
                outcomes.append(Fault(QuarantineReason.INVALID_VALUE, str(error)))
                continue
            if values:
                outcomes.append(_reading(rule, values, shared, record, payload))
        if outcomes:
            return outcomes
        return [NOT_TAKEN] if is_any_asked else [_NO_RULE]

    def _read_shared(self, record: Any, payload: Any, gateway: Gateway) -> "_Shared | Fault":
        try:
            stamp = self.time.read(record, payload)
        except InvalidTimeError as error:
            return Fault(QuarantineReason.INVALID_TIME, str(error))
        if stamp.measured - gateway.received > FUTURE_TOLERANCE:
            return _AHEAD
        device = self.device.read(record, payload) if self.device else None
        patient = self.patient.read(record, payload) if self.patient else None
        if gateway.device is not None:
            if disagree(device, gateway.device):
                return _DEVICE_MISMATCH
            device = merged(device, gateway.device)
        if gateway.patient is not None:
            if disagree(patient, gateway.patient):
                return _PATIENT_MISMATCH
            patient = merged(patient, gateway.patient)
        try:
            duration = self.duration.read(record, payload) if self.duration else _ZERO
        except InvalidValueError as error:
            return Fault(QuarantineReason.INVALID_VALUE, f"the duration: {error}")
        return _Shared(
            device,
            patient,
            stamp,
            duration,
            _names(self.flags, record, payload) if self.flags else (),
            _names(self.supplements, record, payload) if self.supplements else (),
            plain_text(self.note(record, payload)).strip() if self.note else "",
        )


class _Shared(NamedTuple):
    """What all readings of a record have in common."""

    device: IdentifierToken | None
    patient: IdentifierToken | None
    stamp: Stamp
    duration: Decimal
    flags: tuple[str, ...]
    supplements: tuple[str, ...]
    note: str


def _reading(
    rule: ReadingRule,
    values: tuple[Measured, ...],
    shared: _Shared,
    record: Any,
    payload: Any,
) -> Reading:
    device, patient, stamp, duration, flags, supplements, note = shared
    if rule.flags:
        flags = tuple(dict.fromkeys((*flags, *_names(rule.flags, record, payload))))
    return Reading(
        rule.kind,
        device,
        patient,
        stamp.text,
        stamp.measured,
        stamp.effective,
        values,
        duration,
        flags,
        supplements,
        note,
        rule.number,
    )


def _names(names: tuple[Name, ...], record: Any, payload: Any) -> tuple[str, ...]:
    return tuple([name.name for name in names if name.when(record, payload)])


class InvalidReadingError(ValueError):
    """A value of a reading cannot be read; the message names where, never what."""


_ZERO = Decimal(0)
_AHEAD = Fault(QuarantineReason.INVALID_TIME, "the time stamp is more than a day ahead")
_DEVICE_MISMATCH = Fault(
    QuarantineReason.DEVICE_MISMATCH, "the payload names another device than the gateway"
)
_PATIENT_MISMATCH = Fault(
    QuarantineReason.PATIENT_MISMATCH, "the payload names another patient than the gateway"
)
_NO_RULE = Fault(QuarantineReason.UNKNOWN_KIND, "no reading of the mapping fits the record")


def disagree(told: IdentifierToken | None, known: IdentifierToken) -> bool:
    """Whether both are named and cannot be the same; an unknown system may be any."""
    if told is None:
        return False
    if told.value != known.value:
        return True
    return told.system is not None and known.system is not None and told.system != known.system


def merged(told: IdentifierToken | None, known: IdentifierToken) -> IdentifierToken:
    """The one that says more, of two that agree."""
    return known if told is None or told.system is None else told


def plain_text(value: Any) -> str:
    """A text, or a whole number as vendors write ids; anything else is none."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    return ""


def _read(rule: ValueRule, record: Any, payload: Any) -> Measured | None:
    try:
        return rule.read(record, payload)
    except InvalidValueError as error:
        raise InvalidReadingError(f"{rule.where}: {error}") from None
