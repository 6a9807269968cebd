"""Many values at a fixed distance in time: a trace, with `E` where the signal was lost.

https://hl7.org/fhir/R4/datatypes.html#SampledData
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.mapping.normalize import InvalidValueError, parse_number
from fhir_server.core.mapping.reading import Measured, Samples

_GAP = "E"


class SamplesRule(NamedTuple):
    """`period` finds the milliseconds between two samples; `gaps` are values that are none."""

    unit: str
    period: Callable[[Any, Any], Any]
    gaps: frozenset[Decimal | str]

    def read(self, name: str, raw: Any, record: Any, payload: Any) -> Measured | None:
        """The trace; None where nothing of it was taken.

        Raises:
            InvalidValueError: a sample, or the period, is no number.
        """
        if raw is None:
            return None
        if not isinstance(raw, list):
            raise InvalidValueError("the samples are no list")
        period = parse_number(self.period(record, payload))
        if period <= 0:
            raise InvalidValueError("the time between two samples is not above zero")
        # A trace is thousands of samples and few different ones. Only whole numbers are
        # remembered: 70.0 and 70.00 are equal and not the same text.
        known = {n: self._format(n) for n in {s for s in raw if type(s) is int}}
        samples = [known[s] if type(s) is int else self._format(s) for s in raw]
        if all(sample == _GAP for sample in samples):
            return None
        return Measured(name, Samples(period, " ".join(samples)), self.unit)

    def _format(self, sample: Any) -> str:
        if sample is None or (isinstance(sample, str) and sample in self.gaps):
            return _GAP
        number = parse_number(sample)
        return _GAP if number in self.gaps else format(number, "f")
