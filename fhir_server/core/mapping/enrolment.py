"""An enrolment mapping: the payload of the platform that prescribes becomes a Prescription."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeVar

from fhir_server.core import date_range
from fhir_server.core.date_range import DateRange
from fhir_server.core.mapping.expression import Expression
from fhir_server.core.mapping.knowledge import Knowledge, Owner
from fhir_server.core.mapping.normalize import InvalidValueError, parse_number
from fhir_server.core.mapping.prescription import (
    Activity,
    Limits,
    Person,
    PrescribedDevice,
    Prescription,
    Timing,
)
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.mapping.rule import plain_text

Text = Callable[[Any, Any], str]

_DATE_TIME = re.compile(r"[^T]+(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?\Z", re.ASCII)
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?\Z")
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?\Z")
_GENDERS = frozenset({"male", "female", "other", "unknown"})
_PERIOD_UNITS = frozenset({"s", "min", "h", "d", "wk", "mo", "a"})
_DAYS = frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"})
_WHEN = frozenset(
    {"MORN", "MORN.early", "MORN.late", "NOON", "AFT", "AFT.early", "AFT.late", "EVE"}
    | {"EVE.early", "EVE.late", "NIGHT", "PHS", "HS", "WAKE", "C", "CM", "CD", "CV"}
    | {"AC", "ACM", "ACD", "ACV", "PC", "PCM", "PCD", "PCV"}
)


class InvalidEnrolmentError(ValueError):
    """The payload prescribes nothing that can be carried out; names places, never values."""


class IdentifiersRule(NamedTuple):
    """Where identifiers are; each has a system."""

    each: Expression | None
    value: Expression
    system: str
    system_at: Expression | None

    def names(self, payload: Any) -> bool:
        """Whether the payload names any."""
        items = _items(self.each, payload, payload)
        return any(plain_text(self.value(item, payload)).strip() for item in items)

    def read(self, record: Any, payload: Any, where: str) -> tuple[IdentifierToken, ...]:
        """Every identifier that has a system and a value.

        Raises:
            InvalidEnrolmentError: there is none, or one without a system.
        """
        found: list[IdentifierToken] = []
        for item in _items(self.each, record, payload):
            value = plain_text(self.value(item, payload)).strip()
            if not value:
                continue
            system = self.system
            if self.system_at is not None:
                system = plain_text(self.system_at(item, payload)).strip()
            if not system:
                raise InvalidEnrolmentError(f"{where}: an identifier has no system")
            found.append(IdentifierToken(system, value))
        if not found:
            raise InvalidEnrolmentError(f"{where}: there is no identifier")
        return tuple(dict.fromkeys(found))


class PersonRule(NamedTuple):
    """Where a patient or a physician is described; `where` is its name in messages."""

    where: str
    identifiers: IdentifiersRule
    family: Text
    given: Expression | None
    birth_date: Text
    gender: Text
    phone: Text

    def read(self, payload: Any) -> Person:
        where = self.where
        gender = self.gender(payload, payload)
        if gender and gender not in _GENDERS:
            raise InvalidEnrolmentError(f"{where}: the gender is none that FHIR knows")
        birth_date = self.birth_date(payload, payload)
        if birth_date and not _DATE.match(birth_date):
            raise InvalidEnrolmentError(f"{where}: the birth date is no date")
        return Person(
            identifiers=self.identifiers.read(payload, payload, where),
            family=self.family(payload, payload),
            given=_texts(self.given, payload, payload),
            birth_date=birth_date,
            gender=gender,
            phone=self.phone(payload, payload),
        )


class DeviceRule(NamedTuple):
    """Where the devices of the kit are described."""

    each: Expression
    identifiers: IdentifiersRule
    kind: Text
    name: Text
    manufacturer: Text
    model: Text
    is_auxiliary: Callable[[Any, Any], bool]
    knowledge: Knowledge

    def read(self, record: Any, payload: Any, where: str) -> PrescribedDevice:
        kind = self.kind(record, payload)
        device_type = self.knowledge.devices.get(kind)
        if device_type is None:
            raise InvalidEnrolmentError(f"{where}: the type of device is not known")
        return PrescribedDevice(
            identifiers=self.identifiers.read(record, payload, where),
            kind=kind,
            types=device_type.codings(),
            name=self.name(record, payload) or device_type.display,
            manufacturer=self.manufacturer(record, payload),
            model=self.model(record, payload),
            is_auxiliary=self.is_auxiliary(record, payload),
        )


class ActivityRule(NamedTuple):
    """Where it says what to measure, and how often."""

    each: Expression
    kind: Text
    text: Text
    frequency: Expression | None
    period: Expression | None
    period_unit: Text
    times_of_day: Expression | None
    when: Expression | None
    days_of_week: Expression | None
    knowledge: Knowledge

    def read(self, record: Any, payload: Any, where: str) -> Activity:
        kind = self.kind(record, payload)
        measurement = self.knowledge.measurements.get(kind)
        if measurement is None:
            raise InvalidEnrolmentError(f"{where}: the kind of measurement is not known")
        codes = tuple(coding for option in measurement.codes for coding in option.codings())
        return Activity(
            kind,
            codes,
            self._timing(record, payload, where),
            self.text(record, payload) or measurement.display,
        )

    def _timing(self, record: Any, payload: Any, where: str) -> Timing:
        frequency = _number(self.frequency, record, payload, where)
        period = _number(self.period, record, payload, where)
        unit = self.period_unit(record, payload)
        times = _texts(self.times_of_day, record, payload)
        when = _texts(self.when, record, payload)
        days = _texts(self.days_of_week, record, payload)
        if frequency is not None and (frequency < 1 or frequency != int(frequency)):
            raise InvalidEnrolmentError(f"{where}: the frequency is no whole number of times")
        if period is not None and period <= 0:
            raise InvalidEnrolmentError(f"{where}: the period is not positive")
        if unit and unit not in _PERIOD_UNITS:
            raise InvalidEnrolmentError(f"{where}: the unit of the period is none that FHIR knows")
        if not all(_TIME_OF_DAY.match(time) for time in times):
            raise InvalidEnrolmentError(f"{where}: a time of day is none")
        if not _WHEN.issuperset(when) or not _DAYS.issuperset(days):
            raise InvalidEnrolmentError(f"{where}: a time is named by no code that FHIR knows")
        if times and when:
            raise InvalidEnrolmentError(f"{where}: times of day and named times exclude each other")
        return Timing(
            frequency=int(frequency) if frequency is not None else max(len(times), len(when), 1),
            period=period if period is not None else Decimal(1),
            period_unit=unit or "d",
            times_of_day=tuple(t if len(t) == 8 else t + ":00" for t in times),
            when=when,
            days_of_week=days,
        )


class LimitsRule(NamedTuple):
    """Where the physician's limits are."""

    each: Expression
    measure: Text
    low: Expression | None
    high: Expression | None
    unit: Text
    knowledge: Knowledge

    def read(self, record: Any, payload: Any, where: str) -> Limits:
        name = self.measure(record, payload)
        kind, _, component = name.partition(".")
        quality = self.knowledge.quality(Owner(kind, component))
        if quality is None:
            raise InvalidEnrolmentError(f"{where}: what is limited is not known")
        unit = self.unit(record, payload)
        code = quality.code_for(unit) if unit else None
        if code is None:
            raise InvalidEnrolmentError(f"{where}: the unit does not fit what is limited")
        low = _number(self.low, record, payload, where)
        high = _number(self.high, record, payload, where)
        if low is None and high is None:
            raise InvalidEnrolmentError(f"{where}: there is neither a low nor a high limit")
        if low is not None and high is not None and low > high:
            raise InvalidEnrolmentError(f"{where}: the low limit is above the high one")
        return Limits(name, code.codings(), unit, low, high)


class EnrolmentRule(NamedTuple):
    """How to read a Prescription."""

    identifier: IdentifiersRule
    plan: Text
    start: Text
    end: Text
    title: Text
    note: Text
    patient: PersonRule
    physician: PersonRule | None
    devices: DeviceRule
    activities: ActivityRule | None
    limits: LimitsRule | None

    def read(self, payload: Any) -> Prescription:
        """The prescription.

        Raises:
            InvalidEnrolmentError: something in it is missing or impossible.
        """
        plan = self.plan(payload, payload)
        if not plan:
            raise InvalidEnrolmentError("plan: there is none")
        start, end = self.start(payload, payload), self.end(payload, payload)
        first = _moment(start, "start")
        if end and _moment(end, "end").end <= first.start:
            raise InvalidEnrolmentError("end: before the start")
        devices = _all(self.devices, payload, "devices")
        if not devices:
            raise InvalidEnrolmentError("devices: there is none")
        named = [identifier for device in devices for identifier in device.identifiers]
        if len(set(named)) != len(named):
            raise InvalidEnrolmentError("devices: two have the same identifier")
        physician = self.physician
        return Prescription(
            identifier=self.identifier.read(payload, payload, "identifier")[0],
            plan=plan,
            start=start,
            patient=self.patient.read(payload),
            devices=devices,
            activities=_all(self.activities, payload, "activities"),
            limits=_all(self.limits, payload, "limits"),
            end=end,
            title=self.title(payload, payload),
            physician=physician.read(payload)
            if physician and physician.identifiers.names(payload)
            else None,
            note=self.note(payload, payload),
        )


_Made = TypeVar("_Made", covariant=True)


class _ItemRule(Protocol[_Made]):
    @property
    def each(self) -> Expression: ...

    def read(self, record: Any, payload: Any, where: str) -> _Made: ...


def _all(rule: _ItemRule[_Made] | None, payload: Any, where: str) -> tuple[_Made, ...]:
    if rule is None:
        return ()
    items = _items(rule.each, payload, payload)
    return tuple(rule.read(item, payload, f"{where}[{i}]") for i, item in enumerate(items))


def _items(each: Expression | None, record: Any, payload: Any) -> Iterable[Any]:
    if each is None:
        return (record,)
    found = each(record, payload)
    if isinstance(found, list):
        return found
    return () if found is None else (found,)


def _texts(find: Expression | None, record: Any, payload: Any) -> tuple[str, ...]:
    """The texts of a list, or the one text that stands there."""
    texts = (plain_text(item).strip() for item in _items(find, record, payload)) if find else ()
    return tuple(text for text in texts if text)


def _number(find: Expression | None, record: Any, payload: Any, where: str) -> Decimal | None:
    raw = find(record, payload) if find else None
    if raw is None or raw == "":
        return None
    try:
        return parse_number(raw)
    except InvalidValueError as error:
        raise InvalidEnrolmentError(f"{where}: {error}") from None


def _moment(text: str, where: str) -> DateRange:
    try:
        if not _DATE_TIME.match(text):
            raise ValueError
        # Only to compare the two; a bare date keeps its text, and so its reader's zone.
        return date_range.parse(text, UTC)
    except ValueError:
        raise InvalidEnrolmentError(f"{where}: no date, and no time with an offset") from None
