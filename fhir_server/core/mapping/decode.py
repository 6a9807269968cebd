"""Before stage one: payloads that are not JSON all the way down become plain values.

A decoder adds to the payload what it holds in another notation, or in sums that JMESPath
cannot do; the payload's own fields stay beside it. It is named in the mapping: `decode`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fhir_server.core.bluetooth import characteristic
from fhir_server.core.hl7v2 import observation_report
from fhir_server.core.mapping import session, table, trace
from fhir_server.core.mapping.table import InvalidPayloadError

Decoder = Callable[[Any], Any]

__all__ = ["DECODERS", "Decoder", "InvalidPayloadError"]

_HEX_DATE_TIME_DIGITS = 14


def _decode_bluetooth(payload: Any) -> Any:
    """`value`, and `context` beside it, in hex; `device` is `system|value`."""
    found = dict(payload)
    number = str(payload.get("characteristic", "")).upper()
    try:
        context = payload.get("context")
        measured = characteristic.decode(
            number, _octets(payload.get("value")), None if context is None else _octets(context)
        )
        session.place_in_session(measured, _stamp(payload.get("session-start")))
        found["now"] = _stamp(payload.get("now"))
    except characteristic.InvalidOctetsError as error:
        raise InvalidPayloadError(str(error)) from None
    system, bar, value = str(payload.get("device") or "").rpartition("|")
    found["device"] = {"value": value, "system": system if bar else None}
    found["characteristic"] = number
    found["measured"] = measured
    return found


def _stamp(given: Any) -> str | None:
    """A date and time as ISO text, or as the hex of Bluetooth's own form."""
    if not isinstance(given, str) or not given:
        return None
    if len(given) >= _HEX_DATE_TIME_DIGITS and "-" not in given:
        return characteristic.decode_date_time(_octets(given))
    return given


def _octets(given: Any) -> bytes:
    try:
        return bytes.fromhex(given)
    except (TypeError, ValueError):
        raise InvalidPayloadError("the bytes are not written in hex") from None


def _decode_hl7v2(payload: Any) -> Any:
    try:
        report = observation_report.parse(payload.get("message"))
    except observation_report.InvalidMessageError as error:
        raise InvalidPayloadError(str(error)) from None
    return {**payload, **report}


DECODERS: Mapping[str, Decoder] = {
    "bluetooth": _decode_bluetooth,
    "csv": table.decode_table,
    "fetal-trace": trace.decode_trace,
    "hl7v2": _decode_hl7v2,
}
"""By the name that a mapping writes. Each takes a payload that its schema let pass.

Raises:
    InvalidPayloadError: it cannot be read; the message holds no part of it.
"""
