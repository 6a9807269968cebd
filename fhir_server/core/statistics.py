"""Statistics of measurements, in decimals: what `Observation/$stats` can be asked for.

Percentiles are interpolated between the two nearest measurements; the deviation and the
variance are those of a sample. https://hl7.org/fhir/R4/codesystem-observation-statistics.html
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from typing import NamedTuple

SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-statistics"

_CONTEXT = Context(prec=40, traps=[])
_SHOWN = Context(prec=12, traps=[])

ALIASES: Mapping[str, str] = {
    "mean": "average",
    "max": "maximum",
    "min": "minimum",
    "totalcount": "total-count",
    "stddev": "std-dev",
}


class Statistic(NamedTuple):
    """`calculate` is given at least one value, in ascending order; None is undefined of so few.

    The result is in units to the power of `power`; 0 is a plain number.
    """

    display: str
    calculate: Callable[[Sequence[Decimal]], Decimal | None]
    power: int = 1


def _sum(values: Sequence[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = _CONTEXT.add(total, value)
    return total


def _average(values: Sequence[Decimal]) -> Decimal:
    return _CONTEXT.divide(_sum(values), Decimal(len(values)))


def _variance(values: Sequence[Decimal]) -> Decimal | None:
    if len(values) < 2:
        return None
    average = _average(values)
    squares = [
        _CONTEXT.multiply(deviation, deviation)
        for value in values
        if (deviation := _CONTEXT.subtract(value, average)) is not None
    ]
    return _CONTEXT.divide(_sum(squares), Decimal(len(values) - 1))


def _deviation(values: Sequence[Decimal]) -> Decimal | None:
    variance = _variance(values)
    return None if variance is None else _CONTEXT.sqrt(variance)


def percentile(values: Sequence[Decimal], percent: int) -> Decimal:
    """Where `percent` of the ascending `values` are below."""
    below, rest = divmod((len(values) - 1) * percent, 100)
    if rest == 0:
        return values[below]
    step = _CONTEXT.multiply(
        _CONTEXT.subtract(values[below + 1], values[below]), Decimal(rest).scaleb(-2)
    )
    return _CONTEXT.add(values[below], step)


def _percentile(percent: int) -> Callable[[Sequence[Decimal]], Decimal]:
    return lambda values: percentile(values, percent)


def _quartile_deviation(values: Sequence[Decimal]) -> Decimal:
    return _CONTEXT.divide(
        _CONTEXT.subtract(percentile(values, 75), percentile(values, 25)), Decimal(2)
    )


STATISTICS: Mapping[str, Statistic] = {
    "average": Statistic("Average", _average),
    "maximum": Statistic("Maximum", lambda values: values[-1]),
    "minimum": Statistic("Minimum", lambda values: values[0]),
    "median": Statistic("Median", _percentile(50)),
    "sum": Statistic("Sum", _sum),
    "std-dev": Statistic("Standard Deviation", _deviation),
    "variance": Statistic("Variance", _variance, power=2),
    "20-percent": Statistic("20th Percentile", _percentile(20)),
    "80-percent": Statistic("80th Percentile", _percentile(80)),
    "4-lower": Statistic("Lower Quartile", _percentile(25)),
    "4-upper": Statistic("Upper Quartile", _percentile(75)),
    "4-dev": Statistic("Quartile Deviation", _quartile_deviation),
    "5-1": Statistic("1st Quintile", _percentile(20)),
    "5-2": Statistic("2nd Quintile", _percentile(40)),
    "5-3": Statistic("3rd Quintile", _percentile(60)),
    "5-4": Statistic("4th Quintile", _percentile(80)),
}
"""Those of the measurements' values; `COUNTS` are of the measurements themselves."""

COUNTS: Mapping[str, str] = {"count": "Count", "total-count": "Total Count"}


def shown(value: Decimal) -> Decimal:
    """`value` with the digits that mean something, without an exponent."""
    rounded = _SHOWN.plus(value)
    if rounded == rounded.to_integral_value():
        return rounded.quantize(Decimal(1), context=_CONTEXT)
    return Decimal(format(rounded.normalize(_SHOWN), "f"))
