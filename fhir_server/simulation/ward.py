"""A ward: patients with their kits, every day of theirs, and the faults mixed in.

The same seed, start and sizes give the same payloads in the same order.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from fhir_server.core.mapping.reading import QuarantineReason, Verdict
from fhir_server.simulation import devices
from fhir_server.simulation.devices import SERIALS, Measure, Payload, Person, write
from fhir_server.simulation.expectation import Expected, Sending, held, repeated

PATIENTS = "https://pmp.example/fhir/NamingSystem/patient"

_ANY = ("again", "late", "conflict", "broken")
_SOME = ("clock-off", "high-low", "not-a-number", "two-users", "placeholder", "kilopascal")
# The last two happen to a kit, the others to a payload.
FAULTS = (*_ANY, *_SOME, "deviation", "silence", "reassigned")

_OFFLINE_DAYS = 3
# Deviations that follow each other are one alert: so far apart each is one of its own.
_BETWEEN_DEVIATIONS = timedelta(days=3)


class Kind(NamedTuple):
    """Patients of one kind: their mapping, what measures, when in a day, and their kit."""

    mapping: str
    measure: Measure
    times: tuple[timedelta, ...]
    device: str
    plan: str
    faults: frozenset[str] = frozenset()
    limits: tuple[dict[str, Any], ...] = ()
    standing: str = "medical"


class Ward(NamedTuple):
    """`kinds` are names of `KINDS`; `faults` rates from 0 to 1 by name."""

    seed: int
    patients: int
    days: int
    start: datetime
    kinds: tuple[str, ...]
    faults: Mapping[str, float]


def _at(*times: tuple[int, int]) -> tuple[timedelta, ...]:
    return tuple(timedelta(hours=hour, minutes=minute) for hour, minute in times)


_PRESSURE = {"measure": "blood-pressure.systolic", "high": 135, "unit": "mm[Hg]"}
_GLUCOSE = {"measure": "glucose", "low": 3.9, "high": 10.0, "unit": "mmol/L"}
_CUFF = _at((8, 0), (8, 3), (20, 0), (20, 3))
_SHARED = frozenset({"deviation", "placeholder"})
_HOURS = _at(*((hour, 0) for hour in range(24)))


def _cuff(mapping: str, measure: Measure, *faults: str) -> Kind:
    known = _SHARED | set(faults)
    return Kind(mapping, measure, _CUFF, "blood-pressure-cuff", "hypertension", known, (_PRESSURE,))


KINDS: dict[str, Kind] = {
    "ihealth": _cuff("ihealth", devices.ihealth_cuff, "kilopascal"),
    "omron": _cuff("omron", devices.omron_cuff, "two-users"),
    "withings": _cuff("withings", devices.withings_cuff, "two-users"),
    "bluetooth": _cuff(
        "bluetooth", devices.bluetooth_cuff, "kilopascal", "not-a-number", "clock-off", "two-users"
    ),
    "glucometer": Kind(
        "ihealth", devices.glucometer, _at((7, 30), (14, 0), (21, 0)), "glucose-meter", "diabetes",
        frozenset({"deviation"}), (_GLUCOSE,),
    ),
    "cgm": Kind(
        "cgm", devices.glucose_stream, _HOURS, "continuous-glucose-monitor", "diabetes",
        frozenset({"high-low"}),
    ),
    "pregnancy": Kind(
        "fetal-monitor", devices.fetal_monitor, _at((10, 0)), "fetal-monitor", "pregnancy",
        frozenset({"deviation"}),
    ),
    "bracelet": Kind(
        "bracelet", devices.bracelet, _HOURS[7:23], "step-counter", "heart-failure",
        frozenset({"placeholder"}), standing="auxiliary",
    ),
    "implant": Kind("implant", devices.implant, _at((3, 12)), "pacemaker", "heart-failure"),
}  # fmt: skip


class Patient(NamedTuple):
    """One kit; from `handed_on` it is `heir`'s, where it is reassigned."""

    kind: str
    person: Person
    heir: Person | None = None
    handed_on: datetime | None = None

    def holder(self, at: datetime) -> Person:
        if self.heir is None or self.handed_on is None or at < self.handed_on:
            return self.person
        return self.heir


def patients(ward: Ward) -> Iterator[Patient]:
    """`ward.patients` of each kind."""
    for kind in ward.kinds:
        for number in range(ward.patients):
            name = f"{ward.seed}-{kind}-{number}"
            random = Random(f"{name} kit")  # noqa: S311 - played, not kept secret
            person = Person(f"SIM-{name}", f"DEV-{name}")
            if random.random() < ward.faults.get("reassigned", 0):
                half = ward.start + timedelta(days=ward.days // 2, hours=12)
                yield Patient(kind, person, Person(f"SIM-{name}-B", person.serial), half)
            else:
                yield Patient(kind, person)


def enrolments(ward: Ward, patient: Patient) -> Iterator[dict[str, Any]]:
    """The prescription of the kit; two where it passes from one to the other."""
    end = ward.start + timedelta(days=ward.days + 1)
    if patient.heir is None or patient.handed_on is None:
        yield _prescription(patient.kind, patient.person, ward.start, end)
    else:
        before = patient.handed_on - timedelta(seconds=1)
        yield _prescription(patient.kind, patient.person, ward.start, before)
        yield _prescription(patient.kind, patient.heir, patient.handed_on, end)


def sendings(ward: Ward, patient: Patient) -> list[Sending]:
    """All that the kit sends, in the order it is sent."""
    kind = KINDS[patient.kind]
    random = Random(f"{patient.person.identifier} days")  # noqa: S311 - played
    sent: list[Sending] = []
    deviated = ward.start - _BETWEEN_DEVIATIONS
    silent_from = ward.days
    if random.random() < ward.faults.get("silence", 0):
        silent_from = random.randrange(max(1, ward.days - _OFFLINE_DAYS))
    for day in range(ward.days):
        back = (
            ward.start + timedelta(days=min(silent_from + _OFFLINE_DAYS, ward.days))
            if silent_from <= day < silent_from + _OFFLINE_DAYS
            else None
        )
        for time in kind.times:
            at = ward.start + timedelta(days=day) + time
            fault = _draw(random, ward, kind)
            if fault == "deviation":
                if at - deviated < _BETWEEN_DEVIATIONS:
                    fault = ""
                else:
                    deviated = at
            person = patient.holder(at)
            payload = kind.measure(random, person, at, fault)
            one = _sending(kind, person, at, payload, fault)
            for sending in _with_fault(random, one, payload, fault):
                sent.append(sending if back is None else _silenced(sending, back))
    sent.sort(key=lambda sending: sending.at)
    return sent


def _draw(random: Random, ward: Ward, kind: Kind) -> str:
    """At most one fault a payload, so that what must become of it stays plain."""
    drawn = random.random()
    for name in FAULTS:
        if name in _ANY or name in kind.faults:
            drawn -= ward.faults.get(name, 0)
            if drawn < 0:
                return name
    return ""


def _sending(kind: Kind, person: Person, at: datetime, payload: Payload, fault: str) -> Sending:
    expected = payload.expected
    if fault == "two-users":
        # The record is held back, not each of its readings.
        expected = held(1, QuarantineReason.USER_AMBIGUOUS)
    soon = at + timedelta(minutes=1)
    return Sending(
        soon, kind.mapping, person.serial, write(payload.body), expected, payload.device,
        payload.sent, fault,
    )  # fmt: skip


def _with_fault(
    random: Random, sending: Sending, payload: Payload, fault: str
) -> Sequence[Sending]:
    later = sending.at + timedelta(days=random.randint(1, 3))
    if fault == "late":
        return (sending._replace(at=later),)
    if fault == "again":
        expected = tuple(repeated(each) for each in sending.expected)
        return sending, sending._replace(at=later, expected=expected)
    if fault == "conflict" and (other := _contradiction(sending)) is not None:
        return sending._replace(fault=""), other._replace(at=later)
    if fault == "broken":
        expected = held(1, QuarantineReason.MALFORMED)
        return (sending._replace(body=sending.body[:-7], expected=expected),)
    return (sending,)


def _contradiction(sending: Sending) -> Sending | None:
    """The same measurement with another systolic value: the pulse is only a duplicate."""
    for name in (b'"HP":', b'"systolic":'):
        before, found, after = sending.body.partition(name)
        if found:
            digits = len(after) - len(after.lstrip(b"0123456789"))
            body = before + found + str(int(after[:digits]) + 1).encode() + after[digits:]
            _, *others = sending.expected
            expected = (
                Expected(Verdict.CONFLICT, str(QuarantineReason.CONFLICT)),
                *(repeated(each) for each in others),
            )
            return sending._replace(body=body, expected=expected)
    return None


def _silenced(sending: Sending, back: datetime) -> Sending:
    """Nothing while the gateway is away, then everything at once, in its order."""
    delay = timedelta(seconds=(sending.at.timestamp() % 86_400) / 86_400)
    return sending._replace(at=max(sending.at, back + delay))


def _prescription(kind: str, person: Person, start: datetime, end: datetime) -> dict[str, Any]:
    of = KINDS[kind]
    return {
        "number": f"KIT-{person.identifier}",
        "patient": {
            "identifiers": [{"system": PATIENTS, "value": person.identifier}],
            "name": {"family": "Simulated", "given": [person.identifier]},
            "birthDate": "1960-01-01",
            "sex": "f",
        },
        "devices": [
            {
                "identifiers": [{"system": SERIALS, "value": person.serial}],
                "type": of.device,
                "name": f"Simulated {of.device}",
                "standing": of.standing,
            }
        ],
        "prescription": {
            "plan": of.plan,
            "title": f"Simulated {kind}",
            "period": {"start": start.isoformat(), "end": end.isoformat()},
            "activities": [],
            "limits": list(of.limits),
        },
    }
