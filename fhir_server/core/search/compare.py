"""Comparing: whether one index entry is what one value asks for.

https://hl7.org/fhir/R4/search.html#prefix. Each rule stands here once; the stores say the
same with their indexes, and tests hold them to it.
"""

from decimal import Decimal

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.entry import (
    DateEntry,
    Entry,
    NumberEntry,
    QuantityEntry,
    ReferenceEntry,
    StringEntry,
    TextEntry,
    TokenEntry,
    UriEntry,
)
from fhir_server.core.search.folding import fold
from fhir_server.core.search.query import (
    DateValue,
    NumberValue,
    Prefix,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
    Value,
)


def entry_matches(entry: Entry, modifier: str, value: Value) -> bool:
    """Whether one entry is what one value asks for; `:not` asks as if it were not there."""
    match entry, value:
        case TokenEntry(), TokenValue(system, code):
            return (system is None or entry.system == system) and (
                code is None or entry.code == code
            )
        case TokenEntry(), StringValue(folded):
            return fold(entry.text).startswith(folded)
        case ReferenceEntry(), ReferenceValue():
            return _reference(entry, value)
        case DateEntry(), DateValue():
            return date_matches(entry.range, value)
        case StringEntry(), StringValue(folded, exact):
            if modifier == "exact":
                return entry.exact == exact
            return _string(entry.folded, modifier, folded)
        case NumberEntry(), NumberValue():
            return _number(entry.low, entry.high, value)
        case QuantityEntry(), QuantityValue():
            return _quantity(entry, value)
        case UriEntry(), UriValue(uri):
            return entry.uri == uri or (
                modifier == "below" and entry.uri.startswith(uri_below(uri))
            )
        case TextEntry(), TextValue(word, is_prefix):
            if is_prefix:
                return any(each.startswith(word) for each in entry.words)
            return word in entry.words
    return False


def uri_below(uri: str) -> str:
    """What everything below `uri` begins with, by its path."""
    return uri if uri.endswith("/") else uri + "/"


def _string(found: str, modifier: str, folded: str) -> bool:
    match modifier:
        case "contains":
            return folded in found
        case "equal" | "unequal":
            return found == folded
        case "ends":
            return found.endswith(folded)
    return found.startswith(folded)


def _reference(entry: ReferenceEntry, value: ReferenceValue) -> bool:
    if value.version is not None and entry.version != value.version:
        return False
    if value.url is not None:
        return entry.url == value.url
    return entry.resource_id == value.resource_id and (
        entry.resource_type == value.resource_type
        if value.resource_type is not None
        else entry.resource_type != ""
    )


def date_matches(found: DateRange, value: DateValue) -> bool:
    asked = value.range
    match value.prefix:
        case Prefix.EQ:
            return asked.contains(found)
        case Prefix.NE:
            return not asked.contains(found)
        case Prefix.GT:
            return found.end > asked.end
        case Prefix.LT:
            return found.start < asked.start
        case Prefix.GE:
            return found.end > asked.end or asked.contains(found)
        case Prefix.LE:
            return found.start < asked.start or asked.contains(found)
        case Prefix.SA:
            return found.start >= asked.end
        case Prefix.EB:
            return found.end <= asked.start
        case Prefix.AP:
            return asked.overlaps(found)


def _number(low: Decimal, high: Decimal, value: NumberValue) -> bool:
    match value.prefix:
        case Prefix.EQ:
            return value.low <= low and high < value.high
        case Prefix.NE:
            return not (value.low <= low and high < value.high)
        case Prefix.GT:
            return high > value.value
        case Prefix.LT:
            return low < value.value
        case Prefix.GE:
            return high >= value.value
        case Prefix.LE:
            return low <= value.value
        case Prefix.SA:
            return low > value.value
        case Prefix.EB:
            return high < value.value
        case Prefix.AP:
            return low <= value.high and value.low <= high


def _quantity(entry: QuantityEntry, value: QuantityValue) -> bool:
    if value.canonical is not None:
        return entry.canonical_code == value.canonical_code and _number(
            entry.canonical_low, entry.canonical_high, value.canonical
        )
    if value.system is not None and entry.system != value.system:
        return False
    if (
        value.code is not None
        and value.code != entry.code
        and (value.system is not None or value.code != entry.unit)
    ):
        return False
    return _number(entry.low, entry.high, value.number)
