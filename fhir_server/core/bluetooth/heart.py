"""Heart rate (2A37) and the oximeter's spot check (2A5E)."""

from decimal import Decimal

from fhir_server.core.bluetooth.octets import Octets, is_bit
from fhir_server.core.bluetooth.vital_signs import Fields, stamp

_RR_PER_SECOND = 1024
# Of the spot check's measurement status.
_QUESTIONABLE, _INVALID, _UNAVAILABLE = 14, 15, 13
_DEMONSTRATION, _TEST = 10, 11
# Of its device and sensor status.
_MALFUNCTION = 1
_WEAK = (3, 4, 5, 6, 7)


def decode_heart_rate(octets: Octets) -> Fields:
    """2A37; `rr` is the intervals between beats in milliseconds."""
    flags = octets.uint(1)
    found: Fields = {"pulse": Decimal(octets.uint(2 if is_bit(flags, 0) else 1))}
    # Bit 2 says that the sensor can tell whether it touches the skin, bit 1 that it does.
    found["no-contact"] = is_bit(flags, 2) and not is_bit(flags, 1)
    if is_bit(flags, 3):
        octets.uint(2)  # energy spent: no measurement of the programme
    if is_bit(flags, 4):
        intervals = []
        while octets.left:
            interval = Decimal(octets.uint(2) * 1000) / _RR_PER_SECOND
            intervals.append(interval.quantize(Decimal(1)))
        found["rr"] = intervals
    return found


def decode_spot_check(octets: Octets) -> Fields:
    """2A5E."""
    flags = octets.uint(1)
    found: Fields = {"saturation": octets.sfloat(), "pulse": octets.sfloat()}
    if is_bit(flags, 0):
        stamp(octets, found)
    if is_bit(flags, 1):
        status = octets.uint(2)
        found["test"] = is_bit(status, _DEMONSTRATION) or is_bit(status, _TEST)
        found["questionable"] = is_bit(status, _QUESTIONABLE)
        if is_bit(status, _INVALID) or is_bit(status, _UNAVAILABLE):
            found["saturation"] = found["pulse"] = "invalid"
    if is_bit(flags, 2):
        status = octets.uint(3)
        found["sensor-fault"] = is_bit(status, _MALFUNCTION)
        found["weak-signal"] = any(is_bit(status, bit) for bit in _WEAK)
    if is_bit(flags, 3):
        octets.sfloat()  # pulse amplitude index: a quality of the signal, no measurement
    if is_bit(flags, 4):
        # The device says that its clock was not set: a stamp beside it means nothing.
        found.pop("stamp", None)
        found["time-fault"] = True
    return found
