"""Stage one: the compiled rules of a mapping, and how they turn a payload into readings.

A record rule finds records in a payload; each record has one time, device and patient and
may hold several readings. A fault in one value stops that reading alone, a fault in the
time stops its record alone.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.mapping.clock import InvalidTimeError, Stamp
from fhir_server.core.mapping.expression import Expression
from fhir_server.core.mapping.linked import StatusRule, clock_reading, derived, status_readings
from fhir_server.core.mapping.normalize import (
    Amount,
    ImplausibleValueError,
    InvalidValueError,
    parse_number,
    word,
)
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
from fhir_server.core.mapping.samples import SamplesRule
from fhir_server.core.mapping.timing import TimeRule

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
    """One value: an `amount`, `samples` of one, or `words` from the vendor's to the rule's.

    `is_required` is a component that is written even where it was not taken. `comparator`
    finds ``<`` or ``>`` beside the number, `absent` why there is no number.
    """

    name: str
    where: str
    find: Expression
    amount: Amount | None
    words: Mapping[str, str] | None = None
    is_required: bool = False
    comparator: Expression | None = None
    absent: Expression | None = None
    samples: SamplesRule | None = None

    def read(self, record: Any, payload: Any) -> Measured | None:
        raw = self.find(record, payload)
        if self.samples is not None:
            return self.samples.read(self.name, raw, record, payload)
        if self.amount is not None:
            measured = self.amount.read(raw, record, payload)
            if self.comparator is not None or self.absent is not None:
                return self._qualified(measured, record, payload)
            return measured
        text = word(raw)
        if not text:
            return None
        return Measured(self.name, (self.words or {}).get(text, text))

    def _qualified(self, measured: Measured | None, record: Any, payload: Any) -> Measured | None:
        if measured is None or measured.value is None:
            reason = plain_text(self.absent(record, payload)) if self.absent else ""
            if measured is None:
                return Measured(self.name, None, absent=reason) if reason else None
            return measured
        found = plain_text(self.comparator(record, payload)) if self.comparator else ""
        if not found or measured.comparator:
            return measured
        if found not in _COMPARATORS:
            raise InvalidValueError("the comparator is none that FHIR has")
        return measured._replace(comparator=found)


class ReadingRule(NamedTuple):
    """One kind of reading in a record. `value` is None for a panel.

    `ascending` names components none of which may be above the next.
    """

    number: int
    kind: str
    when: Condition | None
    value: ValueRule | None
    components: tuple[ValueRule, ...] = ()
    flags: tuple[Name, ...] = ()
    status: StatusRule | None = None
    derived_from: str = ""
    ascending: tuple[str, ...] = ()

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
        # A panel without a part that it needs is there if any of it is.
        is_taken = self.value is not None or not any(r.is_required for r in self.components)
        for rule in self.components:
            found = _read(rule, record, payload)
            if found is not None:
                is_taken = is_taken or rule.is_required
                values.append(found)
            elif rule.is_required:
                values.append(Measured(rule.name, None, absent="unknown"))
        if self.ascending:
            _check_ascending(self.ascending, values)
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
    ambiguous: Condition | None = None
    focus: Expression | None = None
    clock_number: int = 0

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
                outcomes.append(Fault(error.reason, str(error)))
                continue
            if values:
                reading = _reading(rule, values, shared, record, payload)
                if rule.derived_from:
                    reading = derived(reading, rule.derived_from, outcomes)
                outcomes.append(reading)
                if rule.status is not None and reading.flags:
                    outcomes += status_readings(reading, rule.status)
        if outcomes:
            return outcomes
        return [NOT_TAKEN] if is_any_asked else [_NO_RULE]

    def _read_shared(self, record: Any, payload: Any, gateway: Gateway) -> "_Shared | Fault":
        try:
            stamp, coincidence = self.time.read(record, payload, gateway)
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
        if self.ambiguous is not None and patient is None and self.ambiguous(record, payload):
            return _USER_AMBIGUOUS
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
            plain_text(self.focus(record, payload)) if self.focus else "",
            clock_reading(coincidence, device, patient, stamp, self.clock_number)
            if coincidence
            else (),
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
    focus: str
    clock: tuple[Reading, ...]


def _reading(
    rule: ReadingRule,
    values: tuple[Measured, ...],
    shared: _Shared,
    record: Any,
    payload: Any,
) -> Reading:
    device, patient, stamp, duration, flags, supplements, note, focus, clock = shared
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
        focus,
        clock,
    )


def _names(names: tuple[Name, ...], record: Any, payload: Any) -> tuple[str, ...]:
    return tuple([name.name for name in names if name.when(record, payload)])


class InvalidReadingError(ValueError):
    """A value of a reading cannot be read, or believed; the message names where, never what."""

    reason = QuarantineReason.INVALID_VALUE


class ImplausibleReadingError(InvalidReadingError):
    """Its values can be read, and nobody believes them."""

    reason = QuarantineReason.IMPLAUSIBLE


_ZERO = Decimal(0)
_COMPARATORS = frozenset({"<", "<=", ">", ">="})
_USER_AMBIGUOUS = Fault(
    QuarantineReason.USER_AMBIGUOUS, "the device does not say which of its users it measured"
)
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
    except ImplausibleValueError as error:
        raise ImplausibleReadingError(f"{rule.where}: {error}") from None
    except InvalidValueError as error:
        raise InvalidReadingError(f"{rule.where}: {error}") from None


def _check_ascending(names: tuple[str, ...], values: list[Measured]) -> None:
    taken = {measured.name: measured for measured in values}
    lower: Measured | None = None
    for name in names:
        measured = taken.get(name)
        if measured is None or type(measured.value) is not Decimal or measured.comparator:
            continue
        if (
            lower is not None
            and type(lower.value) is Decimal
            and lower.unit == measured.unit
            and lower.value > measured.value
        ):
            raise ImplausibleReadingError(f"{lower.name} is above {name}")
        lower = measured
