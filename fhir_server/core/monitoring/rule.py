"""Rules: what of a patient's measurements calls for somebody's attention.

A rule is about one thing that is measured and one direction. It is *met* at a reading, and
*left* at one that is back by the margin; between the two neither holds, so a value that
sways around its limit raises one alert and not many (ADR 0020).
"""

from decimal import Decimal
from enum import StrEnum
from typing import Literal, NamedTuple

from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.assignment import Code

Severity = Literal["high", "moderate", "low"]


class RuleKind(StrEnum):
    """How a rule looks at readings.

    LIMIT: one reading is beyond the limit. MEAN: so is the newest, and the mean of what the
    window holds. REPEATED: `times` of the newest `last` in the window are. CHANGE: within
    the window the value rose (or fell) by the limit.
    """

    LIMIT = "limit"
    MEAN = "mean"
    REPEATED = "repeated"
    CHANGE = "change"


class Rule(NamedTuple):
    """One rule of one patient.

    `rule_id` stays the same while the resource it comes from lives ("Goal/7#0.above").
    `code` is one of the code system of alerts. `limit` and `margin` are in `unit`; `window`
    and `cooldown` in microseconds. With `is_inclusive` the limit itself is beyond. `last` is
    how many readings MEAN needs at least, and REPEATED looks at. A reading outside `period`
    is not looked at.
    """

    rule_id: str
    code: str
    kind: RuleKind
    codes: frozenset[Code]
    is_above: bool
    limit: Decimal
    unit: str
    source: ResourceKey
    period: DateRange
    severity: Severity = "moderate"
    is_inclusive: bool = False
    margin: Decimal = Decimal(0)
    cooldown: int = 0
    window: int = 0
    last: int = 1
    times: int = 1

    def is_beyond(self, value: Decimal, comparator: str = "") -> bool:
        """Whether a value, in the rule's unit, is beyond the limit for certain.

        HI at 33.3 is above a limit of 33.3 and of all below; it says nothing of one at 40.
        """
        outward, inward = (">", "<") if self.is_above else ("<", ">")
        if comparator.startswith(inward):
            return False
        if value == self.limit:
            return comparator == outward or self.is_inclusive
        return value > self.limit if self.is_above else value < self.limit

    def is_back(self, value: Decimal, comparator: str = "") -> bool:
        """Whether a value, in the rule's unit, is back within the limit by the margin."""
        if self.is_above:
            return comparator not in (">", ">=") and value <= self.limit - self.margin
        return comparator not in ("<", "<=") and value >= self.limit + self.margin
