"""Search values: the text behind the `=`, read by the type of its parameter.

https://hl7.org/fhir/R4/search.html#ptypes. Messages name the parameter and never repeat
a value: it may be a patient's name.
"""

import re
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Context, Decimal

from fhir_server.core import date_range, quantity, reference
from fhir_server.core.identity import is_resource_id
from fhir_server.core.search.folding import fold
from fhir_server.core.search.query import (
    DateValue,
    NumberValue,
    Prefix,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
)
from fhir_server.errors import InvalidSearch

MAX_VALUE_LENGTH = 4_000

_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap|[<>]=?)?(.*)", re.DOTALL)
# As FHIR wrote them before its second draft. Clients that still do would get a 400 for what
# can mean nothing else.
_SIGNS = {">": Prefix.GT, "<": Prefix.LT, ">=": Prefix.GE, "<=": Prefix.LE}
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_ESCAPED = re.compile(r"\\([\\,|$])")
_EXACT = Context(prec=100)


def split(text: str, separator: str) -> list[str]:
    """The parts of `text` between unescaped separators, still escaped."""
    if "\\" not in text:
        return text.split(separator)
    parts: list[str] = []
    start = position = 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == separator:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return parts


def unescape(text: str) -> str:
    r"""`text` with ``\,``, ``\|``, ``\$`` and ``\\`` as the characters they stand for."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


@dataclass(frozen=True, slots=True)
class ValueReader:
    """Reads the values of one search.

    `base_url` is this server's: references below it are local. `zone` is where bare dates
    are, `now` what `ap` is measured from; `resource_types` are those that exist.
    """

    base_url: str
    zone: tzinfo
    now: datetime
    resource_types: Container[str]

    def token(self, name: str, text: str) -> TokenValue:
        parts = [unescape(part) for part in split(text, "|")]
        if len(parts) == 1 and parts[0]:
            return TokenValue(None, parts[0])
        if len(parts) == 2 and (parts[0] or parts[1]):
            return TokenValue(parts[0], parts[1] or None)
        raise InvalidSearch(f"{name}: expected code, system|code, |code or system|")

    def of_type(self, name: str, text: str) -> TokenValue:
        """`system|code|value` of `:of-type`, as the index has it: the code is `code|value`."""
        parts = [unescape(part) for part in split(text, "|")]
        if len(parts) != 3 or not all(parts):
            raise InvalidSearch(f"{name}: expected system|code|value")
        return TokenValue(parts[0], f"{parts[1]}|{parts[2]}")

    def string(self, name: str, text: str) -> StringValue:
        exact = unescape(text)
        folded = fold(exact)
        if not folded:
            raise InvalidSearch(f"{name}: there is nothing to search for")
        return StringValue(folded, exact)

    def uri(self, name: str, text: str) -> UriValue:
        return UriValue(unescape(text))

    def date(self, name: str, text: str) -> DateValue:
        prefix, rest = _split_prefix(unescape(text))
        try:
            # A "+" that was not percent-encoded arrives as a space.
            found = date_range.parse(rest.replace(" ", "+"), self.zone)
        except ValueError:
            raise InvalidSearch(f"{name}: not a date") from None
        if prefix is Prefix.AP:
            found = date_range.approximate(found, self.now)
        return DateValue(prefix, found)

    def number(self, name: str, text: str) -> NumberValue:
        prefix, rest = _split_prefix(unescape(text))
        return _number(name, prefix, rest)

    def quantity(self, name: str, text: str) -> QuantityValue:
        prefix, rest = _split_prefix(text)
        parts = [unescape(part) for part in split(rest, "|")]
        if len(parts) not in (1, 3):
            raise InvalidSearch(f"{name}: expected number, number|system|code or number||code")
        number = _number(name, prefix, parts[0])
        if len(parts) == 1:
            return QuantityValue(number, None, None)
        system, code = parts[1] or None, parts[2] or None
        unit = quantity.parse_unit(code) if system == quantity.UCUM and code else None
        if unit is None:
            return QuantityValue(number, system, code)
        canonical = NumberValue(
            prefix,
            unit.canonical(number.value),
            unit.canonical(number.low),
            unit.canonical(number.high),
        )
        return QuantityValue(number, system, code, canonical, unit.code)

    def reference(
        self, name: str, text: str, targets: tuple[str, ...], resource_type: str | None
    ) -> tuple[ReferenceValue, ...]:
        """What `text` may refer to; an absolute URL of this server is looked for as both.

        `resource_type` is that of a modifier. A bare id is of the one target, if there
        is but one.
        """
        text = unescape(text)
        if is_resource_id(text):
            only = targets[0] if len(targets) == 1 else None
            return (ReferenceValue(resource_type or only, text),)
        relative = reference.within(text, self.base_url)
        found = reference.parse(relative)
        if found is None:
            raise InvalidSearch(f"{name}: not a reference")
        if found.is_local:
            if found.resource_type not in self.resource_types:
                raise InvalidSearch(f"{name}: a reference to a type that does not exist")
            if resource_type not in (None, found.resource_type):
                raise InvalidSearch(f"{name}: the reference is not to a {resource_type}")
            local = ReferenceValue(
                found.resource_type, found.resource_id, version=found.version or None
            )
            # A canonical is kept as it was written.
            return (local,) if relative == text else (local, ReferenceValue(None, None, text))
        if resource_type is not None:
            raise InvalidSearch(f"{name}: expected an id or {resource_type}/id")
        if ":" not in text:
            raise InvalidSearch(f"{name}: not a reference")
        if "|" in text:
            canonical = reference.parse_canonical(text)
            if canonical is None:
                raise InvalidSearch(f"{name}: not a canonical reference")
            return (ReferenceValue(None, None, canonical.url, canonical.version or None),)
        return (ReferenceValue(None, None, found.url, found.version or None),)


def _split_prefix(text: str) -> tuple[Prefix, str]:
    found = _PREFIX.fullmatch(text)
    if found is None or found[1] is None:
        return Prefix.EQ, text
    return _SIGNS.get(found[1]) or Prefix(found[1]), found[2]


def _number(name: str, prefix: Prefix, text: str) -> NumberValue:
    if _NUMBER.fullmatch(text) is None:
        raise InvalidSearch(f"{name}: not a number")
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    half = Decimal((0, (5,), exponent - 1 if isinstance(exponent, int) else 0))
    if prefix is Prefix.AP:
        half = max(half, _EXACT.scaleb(abs(value), Decimal(-1)))
    return NumberValue(prefix, value, _EXACT.subtract(value, half), _EXACT.add(value, half))
