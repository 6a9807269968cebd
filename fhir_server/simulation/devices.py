"""Devices of the programme: one measurement as the payload that each would send.

Written from the vendors' formats and not from the mappings: the two check each other.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from fhir_server.core.mapping.reading import Verdict
from fhir_server.simulation.expectation import Expected

SERIALS = "https://pmp.example/fhir/NamingSystem/device-serial"
ZONE = timezone(timedelta(hours=3))

_PRESSURE, _PULSE = "85354-9", "8867-4"
_NAN = 0x07FF
_KILOPASCAL = Decimal("7.50062")
_LIMIT = 22.2


class Person(NamedTuple):
    """Whose device it is at a time."""

    identifier: str
    serial: str


class Payload(NamedTuple):
    """A payload before faults; `device` where the format names none."""

    body: Any
    expected: tuple[Expected, ...]
    device: str = ""
    sent: str = ""


Measure = Callable[[Random, Person, datetime, str], Payload]


def accepted(person: Person, code: str, instant: datetime, alert: str = "") -> Expected:
    return Expected(Verdict.ACCEPTED, "", person.identifier, code, instant, alert)


def _pressure(
    random: Random, person: Person, at: datetime, fault: str
) -> tuple[int, int, int, tuple[Expected, ...]]:
    is_high = fault == "deviation"
    systolic = 160 if is_high else random.randint(105, 125)
    pulse = 0 if fault == "placeholder" else random.randint(58, 90)
    expected = [accepted(person, _PRESSURE, at, "above-limit" if is_high else "")]
    if pulse:
        expected.append(accepted(person, _PULSE, at))
    return systolic, random.randint(62, 80), pulse, tuple(expected)


def ihealth_cuff(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    systolic, diastolic, pulse, expected = _pressure(random, person, at, fault)
    is_kilopascal = fault == "kilopascal"
    record = {
        "HP": round(float(systolic / _KILOPASCAL), 1) if is_kilopascal else systolic,
        "LP": round(float(diastolic / _KILOPASCAL), 1) if is_kilopascal else diastolic,
        "HR": pulse,
        "IsArr": 0,
        "DataSource": "FromDevice",
        # The wall clock, counted as if it were UTC.
        "MDate": int(at.timestamp()) + 10_800,
        "TimeZone": "+0300",
        "Note": "",
    }
    body = {"BPUnit": int(is_kilopascal), "BPDataList": [record]}
    return Payload(body, expected, f"{SERIALS}|{person.serial}")


def omron_cuff(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    systolic, diastolic, pulse, expected = _pressure(random, person, at, fault)
    record = {
        "measurementDate": int(at.timestamp()) * 1_000,
        "timeZone": 10_800,
        "systolic": systolic,
        "diastolic": diastolic,
        "pulse": pulse,
        "userNumberInDevice": 2 if fault == "two-users" else 1,
        "isManualEntry": 0,
        "irregularHB": 0,
        "movementDetect": 0,
        "cuffWrapDetect": 1,
    }
    return Payload({"data": [record]}, expected, f"{SERIALS}|{person.serial}")


def withings_cuff(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    systolic, diastolic, pulse, expected = _pressure(random, person, at, fault)
    values = ((diastolic, 9), (systolic, 10), (pulse, 11))
    group = {
        "grpid": 1,
        "attrib": 1 if fault == "two-users" else 0,
        "date": int(at.timestamp()),
        "created": int(at.timestamp()),
        "category": 1,
        "deviceid": person.serial,
        "measures": [{"value": value, "type": kind, "unit": 0} for value, kind in values],
    }
    body = {"status": 0, "body": {"timezone": "Europe/Moscow", "measuregrps": [group]}}
    return Payload(body, expected)


def bluetooth_cuff(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    """2A35: flags, three pressures, time stamp, pulse and user."""
    systolic, diastolic, pulse, expected = _pressure(random, person, at, fault)
    clock = timedelta(minutes=-37) if fault == "clock-off" else timedelta()
    stamp = (at + clock).astimezone(ZONE)
    values = [systolic, diastolic, (systolic + 2 * diastolic) // 3]
    flags = 0b1110
    if fault == "kilopascal":
        flags |= 1
        # One decimal: an SFLOAT with the exponent -1.
        values = [round(value / _KILOPASCAL * 10) | 0xF000 for value in values]
    if fault == "not-a-number":
        pulse = _NAN
    user = 2 if fault == "two-users" else 1
    octets = bytes([flags])
    octets += b"".join(int(value).to_bytes(2, "little") for value in values)
    octets += stamp.year.to_bytes(2, "little")
    octets += bytes([stamp.month, stamp.day, stamp.hour, stamp.minute, stamp.second])
    octets += pulse.to_bytes(2, "little") + bytes([user])
    body = {
        "device": f"{SERIALS}|{person.serial}",
        "characteristic": "2A35",
        "value": octets.hex().upper(),
    }
    if not clock:
        return Payload(body, expected)
    soon = at + timedelta(seconds=30)
    body["now"] = (soon + clock).astimezone(ZONE).strftime("%Y-%m-%dT%H:%M:%S")
    # What both clocks showed is kept beside the reading.
    return Payload(body, (*expected, Expected(Verdict.ACCEPTED)), sent=soon.isoformat())


def glucometer(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    record = {
        "BG": 12.0 if fault == "deviation" else random.randint(50, 75) / 10,
        "DataSource": "FromDevice",
        "DinnerSituation": random.choice(("Before_breakfast", "After_lunch")),
        "MDate": int(at.timestamp()) + 10_800,
        "TimeZone": "+0300",
    }
    alert = "above-limit" if fault == "deviation" else ""
    expected = (accepted(person, "14743-9", at, alert),)
    body = {"BGUnit": 1, "BGDataList": [record]}
    return Payload(body, expected, f"{SERIALS}|{person.serial}")


def glucose_stream(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    """An hour of points, five minutes apart."""
    records: list[dict[str, Any]] = []
    expected = []
    level = random.randint(48, 85)
    for minute in range(0, 60, 5):
        moment = at + timedelta(minutes=minute)
        level = min(95, max(42, level + random.randint(-2, 2)))
        record = {"type": "glucose", "time": moment.isoformat(), "value": level / 10}
        if fault == "high-low" and minute in (20, 40):
            record |= {"value": "HIGH", "limit": _LIMIT} if minute == 20 else {"value": "LOW"}
            # The device's status is an Observation of its own.
            expected.append(Expected(Verdict.ACCEPTED))
        records.append(record)
        expected.append(accepted(person, "105272-9", moment))
    body = {"transmitter": person.serial, "unit": "mmol/L", "records": records}
    return Payload(body, tuple(expected))


def fetal_monitor(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    body = {
        "device": person.serial,
        "taken": at.isoformat(),
        "fhr": random.randint(125, 150),
        "mhr": random.randint(70, 90),
        "method": "ultrasound",
    }
    if fault == "deviation":
        body["fhr"] = 175
    alert = "above-limit" if fault == "deviation" else ""
    return Payload(body, (accepted(person, "11948-7", at, alert), accepted(person, _PULSE, at)))


def bracelet(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    bpm = 0 if fault == "placeholder" else random.randint(60, 110)
    records = [
        {"type": "steps", "time": at.isoformat(), "minutes": 15, "count": random.randint(0, 900)},
        {"type": "heart-rate", "time": at.isoformat(), "bpm": bpm},
    ]
    steps = accepted(person, "55423-8", at)
    pulse = accepted(person, _PULSE, at) if bpm else Expected(Verdict.IGNORED, "placeholder")
    return Payload({"device": person.serial, "records": records}, (steps, pulse))


def implant(random: Random, person: Person, at: datetime, fault: str) -> Payload:
    body = {
        "device": {"serial": person.serial},
        "interrogated": at.isoformat(),
        "battery": {"status": "BOS", "voltage": 2.98, "percentage": random.randint(60, 95)},
        "brady": {"mode": "DDD"},
    }
    return Payload(body, (accepted(person, "implant-interrogation", at),))


def write(body: Any) -> bytes:
    """In one line."""
    return json.dumps(body, separators=(",", ":")).encode()
