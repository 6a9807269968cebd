"""Blood pressure (2A35), weight (2A9D), temperature (2A1C): what a person takes by hand.

https://www.bluetooth.com/specifications/specs/gatt-specification-supplement/
"""

from decimal import Decimal
from typing import Any

from fhir_server.core.bluetooth.octets import Octets, is_bit

_UNKNOWN_USER = 0xFF
_UNSUCCESSFUL = 0xFFFF

Fields = dict[str, Any]


def decode_blood_pressure(octets: Octets) -> Fields:
    """2A35."""
    flags = octets.uint(1)
    found: Fields = {
        "unit": "kPa" if is_bit(flags, 0) else "mmHg",
        "systolic": octets.sfloat(),
        "diastolic": octets.sfloat(),
        "mean": octets.sfloat(),
    }
    if is_bit(flags, 1):
        stamp(octets, found)
    if is_bit(flags, 2):
        found["pulse"] = octets.sfloat()
    if is_bit(flags, 3):
        found["user"] = user(octets)
    if is_bit(flags, 4):
        found["status"] = _pressure_status(octets.uint(2))
    return found


def decode_weight(octets: Octets) -> Fields:
    """2A9D."""
    flags = octets.uint(1)
    is_imperial = is_bit(flags, 0)
    raw = octets.uint(2)
    step = Decimal("0.01") if is_imperial else Decimal("0.005")
    found: Fields = {
        "unit": "lb" if is_imperial else "kg",
        "weight": "unsuccessful" if raw == _UNSUCCESSFUL else raw * step,
    }
    if is_bit(flags, 1):
        stamp(octets, found)
    if is_bit(flags, 2):
        found["user"] = user(octets)
    if is_bit(flags, 3):
        octets.uint(4)  # body mass index and height: not measured now, so not taken
    return found


def decode_temperature(octets: Octets) -> Fields:
    """2A1C."""
    flags = octets.uint(1)
    found: Fields = {
        "unit": "degF" if is_bit(flags, 0) else "Cel",
        "temperature": octets.float32(),
    }
    if is_bit(flags, 1):
        stamp(octets, found)
    if is_bit(flags, 2):
        found["site"] = octets.uint(1)
    return found


def stamp(octets: Octets, found: Fields) -> None:
    """The device's time stamp; a date that it does not know is a time fault."""
    when = octets.date_time()
    if when is None:
        found["time-fault"] = True
    else:
        found["stamp"] = when.isoformat()


def user(octets: Octets) -> int | str:
    """The number of the person on a device for several, or `unknown`."""
    number = octets.uint(1)
    return "unknown" if number == _UNKNOWN_USER else number


def _pressure_status(bits: int) -> Fields:
    pulse_range = bits >> 3 & 0b11
    return {
        "body-movement": is_bit(bits, 0),
        "cuff-loose": is_bit(bits, 1),
        "irregular-pulse": is_bit(bits, 2),
        "pulse-over-range": pulse_range == 1,
        "pulse-under-range": pulse_range == 2,
        "wrong-position": is_bit(bits, 5),
    }
