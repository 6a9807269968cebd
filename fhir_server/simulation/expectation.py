"""What is sent, and what must become of it."""

from datetime import datetime
from typing import NamedTuple

from fhir_server.core.mapping.reading import QuarantineReason, Verdict


class Expected(NamedTuple):
    """One reading. Where it is accepted: whose, which code of the Observation, and when.

    `alert` is the code of the alert that it must raise, "" for none.
    """

    verdict: Verdict
    reason: str = ""
    patient: str = ""
    code: str = ""
    instant: datetime | None = None
    alert: str = ""


class Sending(NamedTuple):
    """One payload. `at` is when it is sent; `device` and `sent` what the gateway says beside."""

    at: datetime
    mapping: str
    serial: str
    body: bytes
    expected: tuple[Expected, ...]
    device: str = ""
    sent: str = ""
    fault: str = ""


def repeated(expected: Expected) -> Expected:
    """What the same payload must be the second time."""
    if expected.verdict is not Verdict.ACCEPTED:
        return expected
    return Expected(Verdict.DUPLICATE)


def held(count: int, reason: QuarantineReason) -> tuple[Expected, ...]:
    """So many readings that wait."""
    return (Expected(Verdict.QUARANTINED, str(reason)),) * count
