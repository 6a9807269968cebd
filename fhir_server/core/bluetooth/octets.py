"""Little-endian fields read one after another, and IEEE 11073's decimal floats.

https://www.bluetooth.com/specifications/gss/ (SFLOAT, FLOAT: IEEE 11073-20601)

A float keeps the device's precision: mantissa 20 with exponent -1 is 2.0, not 2. What is
no number is one of the words that a mapping knows: NaN, +INFINITY, -INFINITY, NRes, and
`reserved` for a mantissa that the standard keeps for itself.
"""

from datetime import datetime
from decimal import Decimal

_SFLOAT_MANTISSA = 12
_FLOAT_MANTISSA = 24


class InvalidOctetsError(ValueError):
    """Bytes that are no such characteristic; the message holds none of them."""


class Octets:
    """A cursor over the bytes of one characteristic. What follows the last field is ignored."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._place = 0

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._octets) - self._place

    def uint(self, length: int) -> int:
        """An unsigned number of `length` bytes."""
        return int.from_bytes(self._take(length), "little")

    def sint(self, length: int) -> int:
        """A signed number of `length` bytes."""
        return int.from_bytes(self._take(length), "little", signed=True)

    def sfloat(self) -> Decimal | str:
        """A number of 16 bits, or the word that stands for none."""
        return _decimal(self.uint(2), _SFLOAT_MANTISSA, 4)

    def float32(self) -> Decimal | str:
        """A number of 32 bits, or the word that stands for none."""
        return _decimal(self.uint(4), _FLOAT_MANTISSA, 8)

    def date_time(self) -> datetime | None:
        """The device's wall clock; None where it says that it does not know the date.

        Raises:
            InvalidOctetsError: there is no such date or time.
        """
        year = self.uint(2)
        month, day, hour, minute, second = self._take(5)
        if not (year and month and day):
            return None
        try:
            return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - a wall clock
        except ValueError:
            raise InvalidOctetsError("the date and time do not exist") from None

    def _take(self, length: int) -> bytes:
        end = self._place + length
        if end > len(self._octets):
            raise InvalidOctetsError("the bytes end before the fields that the flags announce")
        taken = self._octets[self._place : end]
        self._place = end
        return taken


def is_bit(field: int, number: int) -> bool:
    """Whether that bit of a field of flags is set."""
    return bool(field >> number & 1)


def _decimal(raw: int, mantissa_bits: int, exponent_bits: int) -> Decimal | str:
    mantissa = _signed(raw & ((1 << mantissa_bits) - 1), mantissa_bits)
    exponent = _signed(raw >> mantissa_bits, exponent_bits)
    top = (1 << (mantissa_bits - 1)) - 1
    # These five mantissas are no numbers whatever the exponent; only with 0 do they mean
    # something.
    if mantissa >= top - 1 or mantissa <= 1 - top:
        words = {
            top: "NaN",
            top - 1: "+INFINITY",
            -top - 1: "NRes",
            -top: "reserved",
            1 - top: "-INFINITY",
        }
        return words[mantissa] if exponent == 0 else "reserved"
    return Decimal(mantissa).scaleb(exponent)


def _signed(raw: int, bits: int) -> int:
    return raw - (1 << bits) if raw >> (bits - 1) else raw
