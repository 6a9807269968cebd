"""Primitive values as XML text and back; decimals keep their digits.

https://hl7.org/fhir/R4/datatypes.html#primitive
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from fhir_server.core.written_decimal import read_decimal

_INTEGERS = frozenset({"integer", "unsignedInt", "positiveInt"})
_INTEGER = re.compile(r"[+\-]?[0-9]{1,20}\Z")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+\-]?[0-9]+)?\Z")
# Beyond it, turning digits into a number is no longer quick.
_MOST_DIGITS = 4_000
# XML 1.0 has no way to say these, not even escaped.
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ATTRIBUTE_SPECIALS = re.compile('[&<>"\t\r\n]')
# A parser makes spaces of bare tabs and line ends in attributes.
_ESCAPES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "\t": "&#9;",
    "\r": "&#13;",
    "\n": "&#10;",
}


def parse_value(text: str, type_name: str) -> Any:
    """The JSON value that `text` is.

    Raises:
        ValueError: it is not written as the type demands; the message says what does.
    """
    if type_name == "boolean":
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    if type_name in _INTEGERS:
        if not _INTEGER.match(text):
            raise ValueError("must be a whole number")
        return int(text)
    if type_name == "decimal":
        return _parse_decimal(text)
    return text


def format_value(value: Any) -> str | None:
    """`value` as an attribute has it, escaped; None if it is no primitive value."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    return repr(value) if isinstance(value, float) else None


def escape(text: str) -> str:
    """`text` within an element or a quoted attribute."""
    if text.isascii() and text.isprintable():
        return _ATTRIBUTE_SPECIALS.sub(_escape, text)
    return _ATTRIBUTE_SPECIALS.sub(_escape, _UNSPEAKABLE.sub("\ufffd", text))


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES[found[0]]


def _parse_decimal(text: str) -> int | Decimal:
    if len(text) > _MOST_DIGITS or not _DECIMAL.match(text):
        raise ValueError("must be a number")
    try:
        number = read_decimal(text)
    except InvalidOperation:
        raise ValueError("is a number beyond what decimals hold") from None
    # As JSON is read: what has neither fraction nor exponent is an integer.
    return int(text) if text.lstrip("-").isdigit() else number
