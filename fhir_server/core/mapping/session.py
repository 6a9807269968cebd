"""A sensor's minutes since its session began, as the wall clock of the sensor."""

from datetime import datetime, timedelta
from typing import Any

from fhir_server.core.mapping.table import InvalidPayloadError


def place_in_session(measured: dict[str, Any], start: str | None) -> None:
    """Give a measurement that counts minutes its stamp.

    Where nobody says when the session began, the time is not known: a time fault. The
    minute is then the stamp, so that a repeat is still known as one.

    Raises:
        InvalidPayloadError: `start` is no date and time.
    """
    minutes = measured.get("minutes")
    if minutes is None:
        return
    if start is None:
        measured["stamp"] = f"minute {minutes} of the session"
        measured["time-fault"] = True
        return
    try:
        measured["stamp"] = (datetime.fromisoformat(start) + timedelta(minutes=minutes)).isoformat()
    except (ValueError, OverflowError):
        raise InvalidPayloadError("the session's start is no date and time") from None
