"""One value of a payload, normalized: exact, in its unit, absent where it was not taken.

Decimal arithmetic throughout: the digits that the device sent are the digits that are
stored, so 2.0 stays 2.0. A converted value is rounded to the coarsest power of ten that
is still finer than the device's own step: 16.0 kPa is 120.0 mm[Hg], 171.0 [lb_av] 77.56 kg.
"""

from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, NamedTuple

from fhir_server.core.mapping.knowledge import Bounds, Conversion
from fhir_server.core.mapping.reading import Measured
from fhir_server.core.written_decimal import WrittenDecimal

_CONTEXT = Context(prec=40, rounding=ROUND_HALF_UP)
_MAX_TEXT = 40
_MAX_MAGNITUDE = 18

_SFLOAT_WORDS = {
    "nan": "not-a-number",
    "infinity": "positive-infinity",
    "+infinity": "positive-infinity",
    "-infinity": "negative-infinity",
    "inf": "positive-infinity",
    "+inf": "positive-infinity",
    "-inf": "negative-infinity",
    "nres": "error",
    "reserved": "error",
}


class InvalidValueError(ValueError):
    """A value that cannot be read; the message holds no part of it."""


class ImplausibleValueError(InvalidValueError):
    """A value that is a number, and one that nobody believes; the message holds no part of it."""


class Special(NamedTuple):
    """What a word in the place of a number means: a limit, or why there is no number."""

    comparator: str = ""
    value: Decimal | None = None
    absent: str = ""


class Amount(NamedTuple):
    """How to normalize a number. `units` maps the vendor's word for a unit to UCUM.

    `unit_of` finds that word; None where the unit is always `unit`. `conversions` is by
    source unit and leads to the unit that is stored.
    """

    name: str
    unit: str = ""
    unit_of: Callable[[Any, Any], Any] | None = None
    units: Mapping[str, str] = {}
    conversions: Mapping[str, Conversion] = {}
    scale: Decimal | None = None
    exponent: Callable[[Any, Any], Any] | None = None
    placeholders: frozenset[Decimal | str] = frozenset()
    specials: Mapping[str, Special] = {}
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    plausible: Mapping[str, Bounds] = {}

    def read(self, raw: Any, record: Any, payload: Any) -> Measured | None:
        """The value, or None where none was taken.

        Raises:
            InvalidValueError: it is no number, or its unit is not known.
            ImplausibleValueError: it is beyond what is possible, or believed.
        """
        if raw is None or raw == "":
            return None
        unit = self.unit if self.unit_of is None else self._chosen_unit(record, payload)
        if type(raw) is str:
            if raw in self.placeholders:
                return None
            special = self.specials.get(raw)
            if special is None and (absent := _SFLOAT_WORDS.get(raw.strip().lower())):
                special = Special(absent=absent)
            if special is not None:
                return self._special(special, unit)
        number = parse_number(raw)
        if self.exponent is not None:
            number = _shifted(number, self.exponent(record, payload))
        if self.placeholders and number in self.placeholders:
            return None
        return self._measured(number, "", unit)

    def _chosen_unit(self, record: Any, payload: Any) -> str:
        found = self.units.get(word(self.unit_of(record, payload) if self.unit_of else None))
        if found is None:
            raise InvalidValueError("the payload's unit is not one that the mapping knows")
        return found

    def _special(self, special: Special, unit: str) -> Measured:
        if special.value is not None:
            return self._measured(special.value, special.comparator, unit)
        conversion = self.conversions.get(unit)
        stored = conversion.target if conversion else unit
        return Measured(self.name, None, stored, absent=special.absent)

    def _measured(self, number: Decimal, comparator: str, unit: str) -> Measured:
        if self.scale is not None:
            number = _CONTEXT.multiply(number, self.scale)
        original: Decimal | None = None
        original_unit = ""
        conversion = self.conversions.get(unit)
        if conversion is not None:
            original, original_unit = number, unit
            number, unit = convert(number, conversion), conversion.target
        if (self.minimum is not None and number < self.minimum) or (
            self.maximum is not None and number > self.maximum
        ):
            raise ImplausibleValueError(f"the value is not one that is possible in {unit}")
        # HI and LO say where the device ends, not what was measured.
        if not comparator and (bounds := self.plausible.get(unit)) is not None:
            if number < bounds.minimum:
                raise ImplausibleValueError(f"below {bounds.minimum} {unit}")
            if number > bounds.maximum:
                raise ImplausibleValueError(f"above {bounds.maximum} {unit}")
        return Measured(self.name, number, unit, comparator, "", original, original_unit)


def parse_number(raw: Any) -> Decimal:
    """An exact number; a text of one counts, as many vendors send it.

    Raises:
        InvalidValueError: it is none, or larger than anything measured.
    """
    if isinstance(raw, WrittenDecimal):
        raw = Decimal(raw)
    kind = type(raw)
    if kind is int:
        if -(10**_MAX_MAGNITUDE) < raw < 10**_MAX_MAGNITUDE:
            return Decimal(raw)
        raise InvalidValueError("the number is out of range")
    if kind is float:
        raw = repr(raw)
    elif kind is str:
        raw = raw.strip()
        if not raw.isascii() or "_" in raw:
            raise InvalidValueError("the value is no number")
    elif kind is not Decimal:
        raise InvalidValueError("the value is no number")
    try:
        number = raw if kind is Decimal else Decimal(raw if len(raw) <= _MAX_TEXT else "")
    except InvalidOperation:
        raise InvalidValueError("the value is no number") from None
    if not number.is_finite() or len(number.as_tuple().digits) > _MAX_TEXT:
        raise InvalidValueError("the value is no number")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and (
        number.adjusted() > _MAX_MAGNITUDE or exponent < -_MAX_TEXT or exponent > _MAX_MAGNITUDE
    ):
        raise InvalidValueError("the number is out of range")
    # 1E+2 is 100: an exponent is a spelling, FHIR's readers expect plain digits.
    return number.quantize(Decimal(1), context=_CONTEXT) if _is_scaled(exponent) else number


def _shifted(number: Decimal, raw: Any) -> Decimal:
    exponent = parse_number(raw)
    if exponent != exponent.to_integral_value() or abs(exponent) > _MAX_MAGNITUDE:
        raise InvalidValueError("the exponent is no whole number, or out of range")
    return parse_number(number.scaleb(int(exponent)))


def convert(number: Decimal, conversion: Conversion) -> Decimal:
    """`number` in the other unit, rounded to what the device could tell apart."""
    exact = _scaled(_CONTEXT.subtract(number, conversion.subtract), conversion)
    step = Decimal(1).scaleb(number.as_tuple().exponent)  # type: ignore[arg-type] # finite
    return exact.quantize(
        Decimal(1).scaleb(min(_scaled(step, conversion).adjusted(), 0)), context=_CONTEXT
    )


def word(value: Any) -> str:
    """A JSON value as the key of a table: 0 and 0.0 are "0", true is "true"."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal() if value.is_finite() and value == value.to_integral_value():
            return str(int(value)) if value.adjusted() <= _MAX_MAGNITUDE else ""
        case _:
            return str(value)


def _scaled(number: Decimal, conversion: Conversion) -> Decimal:
    return _CONTEXT.divide(_CONTEXT.multiply(number, conversion.multiply), conversion.divide)


def _is_scaled(exponent: int | str) -> bool:
    return isinstance(exponent, int) and exponent > 0
