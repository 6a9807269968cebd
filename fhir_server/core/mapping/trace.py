"""A fetal monitor's trace, and what a search can find of it: a summary of its window.

The sums are here because JMESPath has none. What the summary says is ours: no standard
defines when a fetal and a maternal heart rate coincide (docs/mapping-decisions.md).
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from fhir_server.core.mapping.normalize import InvalidValueError, parse_number
from fhir_server.core.mapping.table import InvalidPayloadError

_COINCIDES_WITHIN = Decimal(5)
_COINCIDES_FROM = Decimal("0.5")


def decode_trace(payload: Any) -> Any:
    """Add `summary` (mean, minimum, maximum, signal-loss in %, coincidence), `maternal-mean`
    and `duration`.

    0 and null are a signal that was lost. A payload without a trace stays as it is.

    Raises:
        InvalidPayloadError: a sample is no number, or the two traces differ in length.
    """
    fetal = payload.get("fhr-samples")
    if fetal is None:
        return payload
    rates = _rates(fetal)
    maternal = _rates(payload.get("mhr-samples") or ())
    if maternal and len(maternal) != len(rates):
        raise InvalidPayloadError("the traces of mother and fetus differ in length")
    taken = [rate for rate in rates if rate]
    found = {**payload, "duration": _period(payload) * len(rates), "summary": None}
    if taken:
        lost = Decimal(100 * (len(rates) - len(taken))) / len(rates)
        found["summary"] = {
            "mean": _mean(taken),
            "minimum": min(taken),
            "maximum": max(taken),
            "signal-loss": lost.quantize(Decimal("0.1")),
            "coincidence": _is_coincidence(rates, maternal),
        }
    if maternal_taken := [rate for rate in maternal if rate]:
        found["maternal-mean"] = _mean(maternal_taken)
    return found


def _mean(rates: Sequence[Decimal]) -> Decimal:
    return (sum(rates, Decimal(0)) / len(rates)).quantize(Decimal(1))


def _period(payload: Any) -> Decimal:
    try:
        return parse_number(payload.get("period"))
    except InvalidValueError:
        raise InvalidPayloadError("the time between two samples is no number") from None


def _is_coincidence(fetal: Sequence[Decimal], maternal: Sequence[Decimal]) -> bool:
    both = [(f, m) for f, m in zip(fetal, maternal, strict=False) if f and m]
    near = [1 for f, m in both if abs(f - m) <= _COINCIDES_WITHIN]
    return bool(both) and Decimal(len(near)) / len(both) >= _COINCIDES_FROM


def _rate(sample: Any) -> Decimal:
    return Decimal(0) if sample is None else parse_number(sample)


def _rates(samples: Sequence[Any]) -> list[Decimal]:
    try:
        known = {n: parse_number(n) for n in {s for s in samples if type(s) is int}}
        return [known[s] if type(s) is int else _rate(s) for s in samples]
    except InvalidValueError:
        raise InvalidPayloadError("a sample is no number") from None
