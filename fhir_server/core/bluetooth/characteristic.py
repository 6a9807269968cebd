"""A characteristic's value as it came over the air, decoded by its number."""

from collections.abc import Callable

from fhir_server.core.bluetooth.glucose import (
    decode_context,
    decode_continuous_glucose,
    decode_glucose,
)
from fhir_server.core.bluetooth.heart import decode_heart_rate, decode_spot_check
from fhir_server.core.bluetooth.octets import InvalidOctetsError, Octets
from fhir_server.core.bluetooth.vital_signs import (
    Fields,
    decode_blood_pressure,
    decode_temperature,
    decode_weight,
)

__all__ = ["CHARACTERISTICS", "InvalidOctetsError", "decode", "decode_date_time"]

_GLUCOSE = "2A18"
_DECODERS: dict[str, Callable[[Octets], Fields]] = {
    "2A18": decode_glucose,
    "2A1C": decode_temperature,
    "2A35": decode_blood_pressure,
    "2A37": decode_heart_rate,
    "2A5E": decode_spot_check,
    "2A9D": decode_weight,
    "2AA7": decode_continuous_glucose,
}

CHARACTERISTICS = tuple(_DECODERS)


def decode(number: str, value: bytes, context: bytes | None = None) -> Fields:
    """The fields of one measurement; numbers are exact, stamps the device's wall clock.

    Args:
        number: the characteristic's, four hex digits.
        value: its bytes.
        context: the bytes of the 2A34 that goes with a 2A18.

    Raises:
        InvalidOctetsError: they are no such measurement.
    """
    decoder = _DECODERS.get(number)
    if decoder is None:
        raise InvalidOctetsError("the characteristic is none that is known")
    found = decoder(Octets(value))
    if context is not None:
        if number != _GLUCOSE:
            raise InvalidOctetsError("only a glucose measurement has a context")
        found |= decode_context(Octets(context), found["sequence"])
    return found


def decode_date_time(value: bytes) -> str | None:
    """The first seven bytes of a Date Time (2A08), Current Time (2A2B) or session start (2AAA)."""
    when = Octets(value).date_time()
    return None if when is None else when.isoformat()
