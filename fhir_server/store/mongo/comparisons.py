"""Comparisons: what a prefix asks of a stored range, as conditions of MongoDB.

Every condition is about one element of an array, to be used within `$elemMatch`. The
rules are those of `core/search/match.py`, which the contract tests hold both stores to.
"""

from collections.abc import Sequence

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.query import DateValue, NumberValue, Prefix, QuantityValue
from fhir_server.store.mongo import keys
from fhir_server.store.mongo.rows import NARROW_SPAN
from fhir_server.store.mongo.steps import Filter


def date(value: DateValue) -> Filter:
    """Of an element with `l` and `h`, a half-open range."""
    start, end = value.range
    match value.prefix:
        case Prefix.EQ:
            return {"l": {"$gte": start}, "h": {"$lte": end}}
        case Prefix.NE:
            return {"$or": [{"l": {"$lt": start}}, {"h": {"$gt": end}}]}
        case Prefix.GT:
            return {"h": {"$gt": end}}
        case Prefix.LT:
            return {"l": {"$lt": start}}
        case Prefix.GE:
            return {"$or": [{"h": {"$gt": end}}, {"l": {"$gte": start}, "h": {"$lte": end}}]}
        case Prefix.LE:
            return {"$or": [{"l": {"$lt": start}}, {"l": {"$gte": start}, "h": {"$lte": end}}]}
        case Prefix.SA:
            return {"l": {"$gte": end}}
        case Prefix.EB:
            return {"h": {"$lte": start}}
        case Prefix.AP:
            return {"l": {"$lt": end}, "h": {"$gt": start}}


class StartBounds:
    """Where a range that matches can start, for an index of starts.

    `least` holds for narrow ranges only; a wide one may start long before.
    """

    __slots__ = ("is_least_hard", "least", "most")

    def __init__(self, value: DateValue) -> None:
        start, end = value.range
        self.least: int | None = None
        self.most: int | None = None
        self.is_least_hard = False
        match value.prefix:
            case Prefix.EQ:
                self.least, self.most, self.is_least_hard = start, end, True
            case Prefix.SA:
                self.least, self.is_least_hard = end, True
            case Prefix.GT:
                self.least = end - NARROW_SPAN
            case Prefix.GE:
                self.least = start - NARROW_SPAN
            case Prefix.AP:
                self.least, self.most = start - NARROW_SPAN, end
            case Prefix.LT | Prefix.EB:
                self.most = start
            case Prefix.LE:
                self.most = end
            case Prefix.NE:
                pass


def date_keys(codes: Sequence[str], value: DateValue) -> list[Filter]:
    """Index keys of all that can match; none where the index is of no help."""
    bounds = StartBounds(value)
    if bounds.least is None and bounds.most is None:
        return []
    found: list[Filter] = []
    for code in codes:
        narrow = keys.all_of(code)
        if bounds.least is not None:
            narrow["$gte"] = keys.date(code, bounds.least)
        if bounds.most is not None:
            narrow["$lte"] = keys.date(code, bounds.most)
        wide = keys.all_of(code + keys.WIDE)
        if bounds.is_least_hard and bounds.least is not None:
            wide["$gte"] = keys.date(code + keys.WIDE, bounds.least)
        if bounds.most is not None:
            wide["$lte"] = keys.date(code + keys.WIDE, bounds.most)
        found += [{"x": {"$elemMatch": narrow}}, {"x": {"$elemMatch": wide}}]
    return found


def last_updated(prefix: Prefix, value: DateRange) -> Filter:
    """Of `u`, whole milliseconds that stand for a millisecond each."""
    start, end = value
    # The least `u` that starts at or behind each, the greatest that ends at or before.
    first, last = -(-start // 1000), end // 1000 - 1
    match prefix:
        case Prefix.EQ:
            return {"u": {"$gte": first, "$lte": last}}
        case Prefix.NE:
            return {"$or": [{"u": {"$lt": first}}, {"u": {"$gt": last}}]}
        case Prefix.GT:
            return {"u": {"$gt": last}}
        case Prefix.LT:
            return {"u": {"$lt": first}}
        case Prefix.GE:
            return {"u": {"$gte": min(first, last + 1)}}
        case Prefix.LE:
            return {"u": {"$lte": max(last, first - 1)}}
        case Prefix.SA:
            return {"u": {"$gte": -(-end // 1000)}}
        case Prefix.EB:
            return {"u": {"$lt": start // 1000}}
        case Prefix.AP:
            return {"u": {"$gte": start // 1000, "$lt": -(-end // 1000)}}


def number(value: NumberValue, low: str = "l", high: str = "h") -> Filter:
    """Of an element whose fields `low` and `high` are texts of `keys.ordered`."""
    exact = keys.ordered(value.value)
    least, most = keys.ordered(value.low), keys.ordered(value.high)
    match value.prefix:
        case Prefix.EQ:
            return {low: {"$gte": least}, high: {"$lt": most}}
        case Prefix.NE:
            return {"$or": [{low: {"$lt": least}}, {high: {"$gte": most}}]}
        case Prefix.GT:
            return {high: {"$gt": exact}}
        case Prefix.LT:
            return {low: {"$lt": exact}}
        case Prefix.GE:
            return {high: {"$gte": exact}}
        case Prefix.LE:
            return {low: {"$lte": exact}}
        case Prefix.SA:
            return {low: {"$gt": exact}}
        case Prefix.EB:
            return {high: {"$lt": exact}}
        case Prefix.AP:
            return {low: {"$lte": most}, high: {"$gte": least}}


def quantity(value: QuantityValue) -> Filter:
    """Of an element with a number in its own unit and, where UCUM knows it, the canonical one."""
    if value.canonical is not None and value.canonical_code is not None:
        return {"cc": value.canonical_code, **number(value.canonical, "cl", "ch")}
    plain = number(value.number)
    if value.code is None:
        return plain if value.system is None else {"s": value.system, **plain}
    if value.system is None:
        return {"$and": [{"$or": [{"c": value.code}, {"n": value.code}]}, plain]}
    return {"s": value.system, "c": value.code, **plain}


def amount_keys(codes: Sequence[str], unit: str | None, value: NumberValue) -> list[Filter]:
    """Index keys of all that can match; `unit` None is not known."""
    if unit is None or value.prefix is Prefix.NE:
        return []
    found: list[Filter] = []
    for code in codes:
        prefix = f"{code}\x1f{keys.escape(unit)}\x1f"
        narrow = keys.starting_with(prefix)
        # Narrow ones are single numbers, so both of their ends are where they start.
        if value.prefix in (Prefix.EQ, Prefix.AP):
            narrow |= {
                "$gte": keys.amount(code, unit, keys.ordered(value.low)),
                "$lte": keys.amount(code, unit, keys.ordered(value.high)),
            }
            narrow.pop("$lt", None)
        elif value.prefix in (Prefix.GT, Prefix.GE, Prefix.SA):
            narrow["$gte"] = keys.amount(code, unit, keys.ordered(value.value))
        else:
            narrow.pop("$lt", None)
            narrow["$lte"] = keys.amount(code, unit, keys.ordered(value.value))
        wide = keys.starting_with(f"{code}{keys.WIDE}\x1f{keys.escape(unit)}\x1f")
        found += [{"x": {"$elemMatch": narrow}}, {"x": {"$elemMatch": wide}}]
    return found
