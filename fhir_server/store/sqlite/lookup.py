"""Lookups: a search parameter's values as conditions on the rows of one index table."""

# ruff: noqa: S608 - put together from constants; every value is bound

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.query import (
    DateValue,
    NumberValue,
    Prefix,
    QuantityValue,
    StringValue,
)
from fhir_server.store.sqlite.decimal_key import decimal_key
from fhir_server.store.sqlite.layout import DAY, NARROW, WIDE
from fhir_server.store.sqlite.sql import (
    FALSE,
    TRUE,
    Sql,
    all_of,
    any_of,
    between,
    is_in,
    negation,
    sql,
)

BY_SEQ = "INDEXED BY reference_by_seq"
# Without statistics SQLite may take an index by value for a test by sequence.
_BY_KEY = "NOT INDEXED"


class Rank(IntEnum):
    """Which of two lookups to begin with, when counting does not tell."""

    IDENTITY = 0
    TIMELINE = 1
    REFERENCE = 2
    TOKEN = 3
    STRING = 4
    DATE = 5
    SCAN = 9


class Lookup(NamedTuple):
    """Rows `i` of `table` that satisfy `where`: each names a version, by `i.seq`.

    `is_ordered`: read from the front they come in the order of `seq`. `is_keyed`: whether
    a given version has one is found by its `seq` at once, by the index `keying` where it has to
    be said. `reading` is the index to read them all. `tested` stands for `where` in a test
    of one version, where that is simpler.
    """

    table: str
    where: Sql
    rank: Rank
    is_ordered: bool = False
    is_keyed: bool = True
    reading: str = ""
    keying: str = ""
    tested: Sql | None = None

    def sequences(self) -> Sql:
        """All of them, read by value."""
        return sql(f"SELECT i.seq FROM {self.table} i {self.reading} WHERE %s", self.where)

    def test(self, version: str) -> Sql:
        """Whether the row `version` of the version table has one."""
        if self.tested == FALSE:
            return FALSE
        if self.is_keyed:
            return sql("EXISTS (%s)", self._keyed("1", version))
        return sql(f"{version}.seq IN (%s)", self.sequences())

    def elements(self, version: str) -> Sql:
        """The elements that those rows of the row `version` come from."""
        return self._keyed("i.element", version)

    def _keyed(self, what: str, version: str) -> Sql:
        where = self.where if self.tested is None else self.tested
        return sql(
            f"SELECT {what} FROM {self.table} i {self.keying} WHERE i.seq = {version}.seq AND %s",
            where,
        )


def date_lookups(parameter: int, values: Sequence[DateValue]) -> Iterator[Lookup]:
    """The narrow ranges, bounded by their start, and apart from them the wide ones."""
    condition = any_of(date_condition("i", value) for value in values)
    bounds = narrow_bounds("i", values)
    of_parameter = sql("i.parameter = %s", parameter)
    # A version is tested for both at once, by what the first of the two lookups says.
    both = all_of((of_parameter, condition))
    for wide, bound, tested in ((NARROW, bounds, both), (WIDE, TRUE, FALSE)):
        yield Lookup(
            "date_entry",
            all_of((of_parameter, Sql(f"i.wide = {wide}"), bound, condition)),
            Rank.DATE,
            reading="INDEXED BY date_by_value",
            keying=_BY_KEY,
            tested=tested,
        )


# What `core.search.match` says of a range, and which ends of the asked one that binds.
_LOW, _HIGH = 0, 1
_DATE_CONDITIONS: Mapping[Prefix, tuple[str, tuple[int, ...]]] = {
    Prefix.EQ: ("{start} >= ? AND {end} <= ?", (_LOW, _HIGH)),
    Prefix.NE: ("({start} < ? OR {end} > ?)", (_LOW, _HIGH)),
    Prefix.GT: ("{end} > ?", (_HIGH,)),
    Prefix.LT: ("{start} < ?", (_LOW,)),
    Prefix.GE: ("({end} > ? OR ({start} >= ? AND {end} <= ?))", (_HIGH, _LOW, _HIGH)),
    Prefix.LE: ("({start} < ? OR ({start} >= ? AND {end} <= ?))", (_LOW, _LOW, _HIGH)),
    Prefix.SA: ("{start} >= ?", (_HIGH,)),
    Prefix.EB: ("{end} <= ?", (_LOW,)),
    Prefix.AP: ("{start} < ? AND {end} > ?", (_HIGH, _LOW)),
}


def date_condition(alias: str, value: DateValue) -> Sql:
    """What `core.search.match` says of a range, on the columns `start` and `end`."""
    prefix, asked = value
    text, ends = _DATE_CONDITIONS[prefix]
    condition = text.format(start=f"{alias}.start", end=f'{alias}."end"')
    return Sql(condition, tuple([asked[end] for end in ends]))


def narrow_values(value: DateValue) -> tuple[int, ...]:
    """What `narrow_bounds` and behind it `date_condition` bind for this one value."""
    prefix, asked = value
    bounds = [bound for bound in _bounds(prefix, asked) if bound is not None]
    return (*bounds, *[asked[end] for end in _DATE_CONDITIONS[prefix][1]])


def narrow_bounds(alias: str, values: Sequence[DateValue]) -> Sql:
    """Where the start of a narrow range must lie that one of `values` is true of."""
    lows, highs = zip(*(_bounds(value.prefix, value.range) for value in values), strict=True)
    return between(
        f"{alias}.start",
        None if None in lows else min(lows),
        None if None in highs else max(highs),
    )


def _bounds(prefix: Prefix, asked: DateRange) -> tuple[int | None, int | None]:
    low, high = asked
    match prefix:
        case Prefix.EQ:
            return low, high + 1
        case Prefix.GT:
            return high - DAY, None
        case Prefix.LT:
            return None, low
        case Prefix.GE:
            return min(low, high - DAY), None
        case Prefix.LE:
            return None, max(low, high + 1)
        case Prefix.SA:
            return high, None
        case Prefix.EB:
            return None, low + 1
        case Prefix.AP:
            return low - DAY, high
        case Prefix.NE:
            return None, None


def string_lookup(parameter: int, modifier: str, values: Sequence[StringValue]) -> Lookup:
    if modifier == "contains":
        # The index is of no use, but it holds all that is asked for.
        condition = any_of(sql("instr(i.folded, %s) > 0", value.folded) for value in values)
        rank = Rank.SCAN
    elif modifier == "exact":
        condition = is_in("i.exact", [value.exact for value in values])
        rank = Rank.SCAN
    elif modifier == "equal":
        condition = is_in("i.folded", [value.folded for value in values])
        rank = Rank.STRING
    elif modifier == "unequal":
        condition = negation(is_in("i.folded", [value.folded for value in values]))
        rank = Rank.SCAN
    elif modifier == "ends":
        condition = any_of(
            sql("substr(i.folded, -length(%s)) = %s", value.folded, value.folded)
            for value in values
        )
        rank = Rank.SCAN
    else:
        condition = any_of(starts_with("i.folded", value.folded) for value in values)
        rank = Rank.STRING
    return Lookup(
        "string_entry",
        all_of((sql("i.parameter = %s", parameter), condition)),
        rank,
        reading="INDEXED BY string_by_value",
        keying=_BY_KEY,
    )


def starts_with(column: str, prefix: str) -> Sql:
    """By bounds, as an index can: texts sort by their code points."""
    end = prefix.rstrip("\U0010ffff")
    if not end:
        return between(column, prefix, None)
    following = ord(end[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:
        # No text has a lone surrogate.
        following = 0xE000
    return between(column, prefix, end[:-1] + chr(following))


def number_lookup(parameter: int, values: Sequence[NumberValue]) -> Lookup:
    condition = any_of(number_condition("i.low", "i.high", value) for value in values)
    return Lookup(
        "number_entry", all_of((sql("i.parameter = %s", parameter), condition)), Rank.SCAN
    )


def number_condition(low: str, high: str, asked: NumberValue) -> Sql:
    """What `core.search.match` says of a number between `low` and `high`, both included."""
    value = decimal_key(asked.value)
    least, greatest = decimal_key(asked.low), decimal_key(asked.high)
    match asked.prefix:
        case Prefix.EQ:
            return sql(f"{low} >= %s AND {high} < %s", least, greatest)
        case Prefix.NE:
            return sql(f"({low} < %s OR {high} >= %s)", least, greatest)
        case Prefix.GT:
            return sql(f"{high} > %s", value)
        case Prefix.LT:
            return sql(f"{low} < %s", value)
        case Prefix.GE:
            return sql(f"{high} >= %s", value)
        case Prefix.LE:
            return sql(f"{low} <= %s", value)
        case Prefix.SA:
            return sql(f"{low} > %s", value)
        case Prefix.EB:
            return sql(f"{high} < %s", value)
        case Prefix.AP:
            return sql(f"{low} <= %s AND {high} >= %s", greatest, least)


def quantity_lookup(parameter: int, values: Sequence[QuantityValue]) -> Lookup:
    condition = any_of(map(_quantity_condition, values))
    return Lookup(
        "quantity_entry", all_of((sql("i.parameter = %s", parameter), condition)), Rank.SCAN
    )


def _quantity_condition(value: QuantityValue) -> Sql:
    if value.canonical is not None:
        unit = sql("canonical = %s", value.canonical_code or "")
        number = number_condition("i.canonical_low", "i.canonical_high", value.canonical)
    else:
        units: list[Sql] = []
        if value.system is not None:
            units.append(sql("system = %s", value.system))
            if value.code is not None:
                units.append(sql("code = %s", value.code))
        elif value.code is not None:
            units.append(sql("(code = %s OR unit = %s)", value.code, value.code))
        unit = all_of(units)
        number = number_condition("i.low", "i.high", value.number)
    if unit == Sql("1"):
        return number
    return sql("i.unit IN (SELECT id FROM unit WHERE %s) AND %s", unit, number)


def nothing(table: str) -> Lookup:
    """What can have no row: a name that was never stored."""
    return Lookup(table, FALSE, Rank.IDENTITY)
