"""Glucose (2A18) with its context (2A34), and continuous glucose (2AA7).

https://www.bluetooth.com/specifications/specs/glucose-service-1-0-1/
https://www.bluetooth.com/specifications/specs/continuous-glucose-monitoring-service-1-0-2/
"""

from datetime import timedelta

from fhir_server.core.bluetooth.octets import InvalidOctetsError, Octets, is_bit
from fhir_server.core.bluetooth.vital_signs import Fields

# kg/L is 100 000 mg/dL, mol/L is 1 000 mmol/L; powers of ten keep the device's digits.
_MASS_EXPONENT, _MOLES_EXPONENT = 5, 3
_TYPES = {
    1: "capillary",
    2: "capillary",
    3: "venous",
    4: "venous",
    5: "arterial",
    6: "arterial",
    7: "undetermined",
    8: "undetermined",
    9: "interstitial",
    10: "control-solution",
}
_LOCATIONS = {1: "finger", 2: "alternate", 3: "earlobe", 4: "control-solution"}
_CAPILLARY_PLACES = frozenset({"finger", "alternate", "earlobe"})
_MEALS = {1: "before-meal", 2: "after-meal", 3: "fasting", 4: "casual", 5: "bedtime"}


def decode_glucose(octets: Octets) -> Fields:
    """2A18. `sample` is the kind of fluid; `comparator` is set where the limit is known."""
    flags = octets.uint(1)
    found: Fields = {"sequence": octets.uint(2)}
    base = octets.date_time()
    offset = octets.sint(2) if is_bit(flags, 0) else 0
    if base is None:
        found["time-fault"] = True
    else:
        try:
            found["stamp"] = (base + timedelta(minutes=offset)).isoformat()
        except OverflowError:
            raise InvalidOctetsError("the date and time do not exist") from None
    if is_bit(flags, 1):
        is_moles = is_bit(flags, 2)
        value = octets.sfloat()
        exponent = _MOLES_EXPONENT if is_moles else _MASS_EXPONENT
        found["glucose"] = value if isinstance(value, str) else value.scaleb(exponent)
        found["unit"] = "mmol/L" if is_moles else "mg/dL"
        fluid = octets.uint(1)
        found["sample"] = _sample(fluid & 0x0F, fluid >> 4)
    if is_bit(flags, 3):
        _write_status(octets.uint(2), found)
    found["has-context"] = is_bit(flags, 4)
    return found


def decode_context(octets: Octets, sequence: int) -> Fields:
    """2A34 of the measurement with that sequence number.

    Raises:
        InvalidOctetsError: it is another measurement's.
    """
    flags = octets.uint(1)
    if octets.uint(2) != sequence:
        raise InvalidOctetsError("the context belongs to another measurement")
    found: Fields = {}
    if is_bit(flags, 7):
        octets.uint(1)
    if is_bit(flags, 0):
        octets.uint(3)  # carbohydrates
    if is_bit(flags, 1):
        meal = octets.uint(1)
        # A number that the standard reserves says nothing.
        found["meal"] = _MEALS.get(meal)
    if is_bit(flags, 2):
        octets.uint(1)  # tester and health
    if is_bit(flags, 3):
        octets.uint(3)  # exercise
    if is_bit(flags, 4):
        octets.uint(3)  # medication
    if is_bit(flags, 6):
        octets.uint(2)  # HbA1c
    return found


def decode_continuous_glucose(octets: Octets) -> Fields:
    """2AA7: the first of the measurements in it; always mg/dL.

    `minutes` counts from the start of the sensor's session, which is not in the bytes.

    Raises:
        InvalidOctetsError: the bytes are shorter than they say, or hold more than one.
    """
    size = octets.left
    if octets.uint(1) != size:
        raise InvalidOctetsError("the size that the bytes state is not theirs")
    flags = octets.uint(1)
    found: Fields = {"glucose": octets.sfloat(), "unit": "mg/dL", "minutes": octets.uint(2)}
    device = octets.uint(1) if is_bit(flags, 7) else 0
    calibration = octets.uint(1) if is_bit(flags, 6) else 0
    warning = octets.uint(1) if is_bit(flags, 5) else 0
    if is_bit(flags, 0):
        found["trend"] = octets.sfloat()
    if is_bit(flags, 1):
        found["quality"] = octets.sfloat()
    found["status"] = {
        "session-stopped": is_bit(device, 0),
        "low-battery": is_bit(device, 1),
        "sensor-fault": is_bit(device, 2) or is_bit(device, 3) or is_bit(device, 5),
        "calibration-required": is_bit(calibration, 3),
        "below-range": is_bit(warning, 6),
        "above-range": is_bit(warning, 7),
    }
    _write_comparator(found)
    return found


def _sample(fluid: int, location: int) -> str:
    place = _LOCATIONS.get(location)
    sample = _TYPES.get(fluid, "undetermined")
    if place == "control-solution":
        return place
    if sample == "undetermined" and place in _CAPILLARY_PLACES:
        return "capillary"
    return sample


def _write_status(bits: int, found: Fields) -> None:
    found["status"] = {
        "low-battery": is_bit(bits, 0),
        "sensor-fault": is_bit(bits, 1) or is_bit(bits, 10),
        "small-sample": is_bit(bits, 2),
        "strip-insertion": is_bit(bits, 3),
        "wrong-strip": is_bit(bits, 4),
        "above-range": is_bit(bits, 5),
        "below-range": is_bit(bits, 6),
        "temperature-out-of-range": is_bit(bits, 7) or is_bit(bits, 8),
        "strip-pulled": is_bit(bits, 9),
    }
    if is_bit(bits, 11):
        found["time-fault"] = True
    _write_comparator(found)


def _write_comparator(found: Fields) -> None:
    """Beyond the range a number is the limit; no number is the device's HI or LO.

    Where there is neither number nor range, what failed is the strip or the sensor.
    """
    status = found["status"]
    is_beyond = status["above-range"] != status["below-range"]
    if "glucose" not in found:
        if any(status.values()):
            found["absent"] = "unknown" if is_beyond else "error"
    elif is_beyond:
        found["comparator"] = ">" if status["above-range"] else "<"
