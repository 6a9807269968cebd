"""Elements to index entries: one function for each type of parameter and of element.

https://hl7.org/fhir/R4/search.html#ptypes has the table of what each pair means. Every
function takes the element, a way to add entries, the parameter's code, and the ordinal
of the composite's element.
"""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any

from fhir_server.core import date_range, quantity, reference
from fhir_server.core.date_range import DateRange
from fhir_server.core.search.entry import (
    GREATEST,
    LEAST,
    DateEntry,
    NumberEntry,
    QuantityEntry,
    ReferenceEntry,
    StringEntry,
    TokenEntry,
    UriEntry,
)
from fhir_server.core.search.folding import fold
from fhir_server.core.search.parameter import SearchType

Add = Callable[[Any], None]
Extract = Callable[[Any, Add, str, int], None]

_CURRENCIES = "urn:iso:std:iso:4217"
# A third of the price of the class itself, which is half the price of indexing.
_new = tuple.__new__


def _code(value: str, add: Add, parameter: str, element: int) -> None:
    add(_new(TokenEntry, (parameter, "", value, False, "", element)))


def _boolean(value: bool, add: Add, parameter: str, element: int) -> None:
    add(_new(TokenEntry, (parameter, "", "true" if value else "false", False, "", element)))


def _coding(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    system, code = value.get("system") or "", value.get("code") or ""
    text = value.get("display") or ""
    if system or code or text:
        add(_new(TokenEntry, (parameter, system, code, False, text, element)))


def _codeable_concept(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    text = value.get("text") or ""
    is_said = not text
    for coding in value.get("coding") or ():
        shown = coding.get("display") or text
        is_said = is_said or shown == text
        add(
            _new(
                TokenEntry,
                (
                    parameter,
                    coding.get("system") or "",
                    coding.get("code") or "",
                    False,
                    shown,
                    element,
                ),
            )
        )
    if not is_said:
        add(_new(TokenEntry, (parameter, "", "", False, text, element)))


def _identifier(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    system, code = value.get("system") or "", value.get("value") or ""
    kind = value.get("type")
    if kind is None:
        if system or code:
            add(_new(TokenEntry, (parameter, system, code, True, "", element)))
        return
    text = kind.get("text") or ""
    for coding in kind.get("coding") or ():
        text = text or coding.get("display") or ""
        if code and (type_code := coding.get("code")):
            of_type = (f"{parameter}:of-type", coding.get("system") or "", f"{type_code}|{code}")
            add(_new(TokenEntry, (*of_type, True, "", element)))
    if system or code or text:
        add(_new(TokenEntry, (parameter, system, code, True, text, element)))


def _contact_point(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    if code := value.get("value"):
        add(_new(TokenEntry, (parameter, value.get("system") or "", code, True, "", element)))


def _reference(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    text = value.get("reference")
    if text is not None and (found := reference.parse(text)) is not None:
        add(_new(ReferenceEntry, (parameter, *found, element)))


def logical_reference(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    """A Reference by identifier only, as a token: what `:identifier` looks for."""
    if (identifier := value.get("identifier")) is not None:
        system, code = identifier.get("system") or "", identifier.get("value") or ""
        if system or code:
            add(_new(TokenEntry, (f"{parameter}:identifier", system, code, True, "", element)))


def _canonical(value: str, add: Add, parameter: str, element: int) -> None:
    if (found := reference.parse_canonical(value)) is not None:
        add(_new(ReferenceEntry, (parameter, *found, element)))


def _uri_reference(value: str, add: Add, parameter: str, element: int) -> None:
    if (found := reference.parse(value)) is not None:
        add(_new(ReferenceEntry, (parameter, *found, element)))


def _resource(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    if resource_id := value.get("id"):
        add(_new(ReferenceEntry, (parameter, value["resourceType"], resource_id, "", "", element)))


def _string(value: str, add: Add, parameter: str, element: int) -> None:
    if folded := fold(value):
        add(_new(StringEntry, (parameter, folded, value, element)))


def _parts(*names: str) -> Extract:
    def extract(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
        for name in names:
            part = value.get(name)
            if part is None:
                continue
            for text in part if isinstance(part, list) else (part,):
                if text is not None:
                    _string(text, add, parameter, element)

    return extract


_human_name = _parts("text", "family", "given", "prefix", "suffix")
_address = _parts("text", "line", "city", "district", "state", "postalCode", "country")


def _uri(value: str, add: Add, parameter: str, element: int) -> None:
    if value:
        add(_new(UriEntry, (parameter, value, element)))


def _number(value: int | Decimal, add: Add, parameter: str, element: int) -> None:
    number = Decimal(value)
    add(_new(NumberEntry, (parameter, number, number, element)))


def _number_range(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    low, high = (value.get("low") or {}).get("value"), (value.get("high") or {}).get("value")
    if low is None and high is None:
        return
    least = LEAST if low is None else Decimal(low)
    greatest = GREATEST if high is None else Decimal(high)
    if least <= greatest:
        add(_new(NumberEntry, (parameter, least, greatest, element)))


_Bounds = tuple[Decimal, Decimal, str, str, str, Decimal, Decimal, str]


def _bounds(
    low: str | None, high: str | None, system: str | None, code: str | None, unit: str | None
) -> _Bounds:
    """What a QuantityEntry says of a value between two numbers.

    The numbers are texts, as 5.0 and 5.00 are the same key to a cache.
    """
    least = LEAST if low is None else Decimal(low)
    greatest = GREATEST if high is None else Decimal(high)
    known = quantity.parse_unit(code) if system == quantity.UCUM and code else None
    head = (least, greatest, system or "", code or "", unit or "")
    if known is None:
        return (*head, least, greatest, "")
    return (
        *head,
        LEAST if low is None else _finite(known.canonical(least)),
        GREATEST if high is None else _finite(known.canonical(greatest)),
        known.code,
    )


def _finite(value: Decimal) -> Decimal:
    """`value`, or the limit that it overflowed."""
    if value.is_finite():
        return value
    return LEAST if value.is_signed() else GREATEST


# Readings repeat; texts that are longer than any unit or number would fill the memory.
_SHORT = 250
_known_bounds = lru_cache(maxsize=16_384)(_bounds)


def _quantity_of(
    low: str | None, high: str | None, unit: Mapping[str, Any], parameter: str, element: int
) -> QuantityEntry:
    system, code, name = unit.get("system"), unit.get("code"), unit.get("unit")
    length = len(low or "") + len(high or "") + len(system or "") + len(code or "")
    bounds_of = _known_bounds if length + len(name or "") <= _SHORT else _bounds
    bounds = bounds_of(low, high, system, code, name)
    return _new(QuantityEntry, (parameter, *bounds, element))


def _quantity(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    number = value.get("value")
    if number is None:
        return
    text = str(number)
    low: str | None = text
    high: str | None = text
    comparator = value.get("comparator")
    if comparator is not None:
        if comparator in ("<", "<="):
            low = None
        else:
            high = None
    add(_quantity_of(low, high, value, parameter, element))


def _money(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    if (number := value.get("value")) is not None:
        text, currency = str(number), value.get("currency")
        unit = {"system": _CURRENCIES, "code": currency} if currency else {}
        add(_quantity_of(text, text, unit, parameter, element))


def _range(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
    low, high = value.get("low") or {}, value.get("high") or {}
    least, greatest = low.get("value"), high.get("value")
    if least is None and greatest is None:
        return
    if least is not None and greatest is not None and least > greatest:
        return
    unit = low if least is not None else high
    low_text = None if least is None else str(least)
    high_text = None if greatest is None else str(greatest)
    add(_quantity_of(low_text, high_text, unit, parameter, element))


def _dates(zone: tzinfo) -> Mapping[str, Extract]:
    """The functions for dates, which need to know where a bare date was written."""
    parse, of_period, of_timing = date_range.parse, date_range.of_period, date_range.of_timing

    def date(value: str, add: Add, parameter: str, element: int) -> None:
        add(_new(DateEntry, (parameter, parse(value, zone), element)))

    def add_range(found: DateRange | None, add: Add, parameter: str, element: int) -> None:
        if found is not None:
            add(_new(DateEntry, (parameter, found, element)))

    def period(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
        add_range(of_period(value, zone), add, parameter, element)

    def timing(value: dict[str, Any], add: Add, parameter: str, element: int) -> None:
        add_range(of_timing(value, zone), add, parameter, element)

    return {"date": date, "dateTime": date, "instant": date, "Period": period, "Timing": timing}


_QUANTITIES: Mapping[str, Extract] = dict.fromkeys(
    ("Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity"), _quantity
)
_TEXTS: Mapping[str, Extract] = dict.fromkeys(("string", "markdown", "code", "id"), _string)
_URIS: Mapping[str, Extract] = dict.fromkeys(("uri", "url", "canonical", "oid", "uuid"), _uri)
_CODES: Mapping[str, Extract] = dict.fromkeys(
    ("code", "string", "id", "uri", "url", "oid", "uuid", "canonical"), _code
)
_NUMBERS: Mapping[str, Extract] = dict.fromkeys(
    ("integer", "positiveInt", "unsignedInt", "decimal"), _number
)


_SEVERAL: frozenset[Extract] = frozenset({_codeable_concept, _human_name, _address})


def is_single(extract: Extract, element: Mapping[str, Any]) -> bool:
    """Whether `extract` adds no more than one entry for an element like this."""
    return extract not in _SEVERAL and not (extract is _identifier and "type" in element)


def extracts(zone: tzinfo) -> Mapping[tuple[SearchType, str], Extract]:
    """The function for each type of parameter and of element; a pair without one says nothing.

    `zone` is where dates without a time are.
    """
    by_type: Mapping[SearchType, Mapping[str, Extract]] = {
        SearchType.TOKEN: {
            **_CODES,
            "boolean": _boolean,
            "Coding": _coding,
            "CodeableConcept": _codeable_concept,
            "Identifier": _identifier,
            "ContactPoint": _contact_point,
        },
        SearchType.REFERENCE: {
            "Reference": _reference,
            "canonical": _canonical,
            "uri": _uri_reference,
            "url": _uri_reference,
            "Resource": _resource,
        },
        SearchType.STRING: {
            **_TEXTS,
            "HumanName": _human_name,
            "Address": _address,
        },
        SearchType.DATE: _dates(zone),
        SearchType.NUMBER: {**_NUMBERS, "Range": _number_range},
        SearchType.QUANTITY: {
            **_QUANTITIES,
            "Money": _money,
            "Range": _range,
            "MoneyQuantity": _quantity,
        },
        SearchType.URI: _URIS,
    }
    return {
        (search_type, type_name): extract
        for search_type, of_type in by_type.items()
        for type_name, extract in of_type.items()
    }
