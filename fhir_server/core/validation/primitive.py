"""The primitive types of FHIR: which JSON value and which text each may be.

https://hl7.org/fhir/R4/datatypes.html#primitive, narrowed to dates that exist. A
pattern describes the whole text and uses only what `re` and a linear engine without
look-around read alike, since both run it: no ``$``, no class of letters or spaces.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.validation import narrative

_YEAR = "(?:[0-9](?:[0-9](?:[0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAY = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    f"|{_LEAP_YEAR}-02-29)"
)
_DATE = f"(?:{_YEAR}(?:-(?:0[1-9]|1[0-2]))?|{_DAY})"
# A leap second is 60; which days have one is no business of a format.
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+\-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_INSTANT = f"{_DAY}T{_TIME}{_ZONE}"
_TEXT = r"[^\x00-\x08\x0b\x0c\x0e-\x1f]+"
_URI = r"[^\x00-\x20]+"
_ID = r"[A-Za-z0-9\-.]{1,64}"
_BASE64_CHARACTER = r"[A-Za-z0-9+/][ \t\r\n]*"
_BASE64 = (
    rf"[ \t\r\n]*(?:(?:{_BASE64_CHARACTER}){{4}})*"
    rf"(?:(?:{_BASE64_CHARACTER}){{3}}=[ \t\r\n]*"
    rf"|(?:{_BASE64_CHARACTER}){{2}}=[ \t\r\n]*=[ \t\r\n]*)?"
)
_BASE64_COMPACT = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_NO_WHITESPACE = {ord(c): None for c in " \t\r\n"}

# What is seen to be harmless at a look; all else is parsed.
_PLAIN = r"^<>&\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff"
_FLAT = "".join(rf"|<{name}>[{_PLAIN}]*</{name}>" for name in ("p", "b", "i", "pre", "span"))
_FLAT_DIV = (
    r'<div(?: xmlns="http://www\.w3\.org/1999/xhtml")?>'
    rf"(?:[{_PLAIN}]|<br/>{_FLAT})*</div>"
)

_MAX_STRING = 1024 * 1024
_MAX_INTEGER = 2**31 - 1


class Primitive(NamedTuple):
    """A primitive type.

    `json` is the JSON Schema word for its values, `meaning` ends the sentence "must be
    …". `pattern` is set for texts, `minimum` for whole numbers; `quick` matches only what is
    legal, where a pattern cannot tell it of everything.
    """

    name: str
    json: str
    meaning: str
    pattern: str = ""
    minimum: int | None = None
    max_length: int | None = None
    quick: str = ""

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a value; it is never looser than `fault`."""
        found: dict[str, Any] = {"type": self.json}
        if self.pattern:
            found["pattern"] = f"^(?:{self.quick or self.pattern})$"
            # The pattern of base64 allows what holds no character.
            found["minLength"] = 1
        if self.max_length is not None:
            found["maxLength"] = self.max_length
        if self.minimum is not None:
            found["minimum"] = self.minimum
            found["maximum"] = _MAX_INTEGER
        return found

    def is_of_type(self, value: object) -> bool:
        """Whether `value` is the right kind of JSON value."""
        if self.json == "string":
            return isinstance(value, str)
        if self.json == "boolean":
            return isinstance(value, bool)
        if isinstance(value, bool):
            return False
        return isinstance(value, int) if self.json == "integer" else _is_number(value)

    def is_legal(self, value: Any) -> bool:
        """Whether `value`, of the right type, is written as the type demands."""
        if self.minimum is not None:
            return bool(self.minimum <= value <= _MAX_INTEGER)
        if not self.pattern:
            return True
        if not value or (self.max_length is not None and len(value) > self.max_length):
            return False
        if self.name == "base64Binary":
            # `re` is slow and hungry where the pattern meets megabytes.
            compact = value.translate(_NO_WHITESPACE)
            return len(compact) % 4 == 0 and _BASE64_COMPACT.fullmatch(compact) is not None
        if re.fullmatch(self.pattern, value) is None:
            return False
        return self.name != "xhtml" or narrative.is_harmless(value)

    def matcher(self) -> Callable[[str], object | None]:
        """What is not None for a legal text, for one who asks often."""
        return re.compile(self.pattern).fullmatch


def _is_number(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return isinstance(value, int | float) and value == value and abs(value) != float("inf")


def _text(name: str, meaning: str, pattern: str, max_length: int | None = None) -> Primitive:
    return Primitive(name, "string", meaning, pattern, max_length=max_length)


PRIMITIVES = {
    p.name: p
    for p in (
        Primitive("boolean", "boolean", "true or false"),
        Primitive("integer", "integer", "a whole number of 32 bits", minimum=-(2**31)),
        Primitive("unsignedInt", "integer", "a whole number from 0", minimum=0),
        Primitive("positiveInt", "integer", "a whole number from 1", minimum=1),
        Primitive("decimal", "number", "a number"),
        _text("string", "a text of 1 to 1048576 printable characters", _TEXT, _MAX_STRING),
        _text("markdown", "a text of printable characters", _TEXT),
        Primitive(
            "xhtml",
            "string",
            "an XHTML <div> of formatted text: no script, event, form, style or image from outside",
            r"[ \t\r\n]*<div[ \t\r\n>/][^\x00-\x08\x0b\x0c\x0e-\x1f]*>[ \t\r\n]*",
            quick=_FLAT_DIV,
        ),
        _text("uri", "a URI without spaces", _URI),
        _text("url", "a URL without spaces", _URI),
        _text("canonical", "a canonical URL without spaces", _URI),
        _text("oid", "an OID: urn:oid:…", r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+"),
        _text(
            "uuid",
            "a UUID: urn:uuid:… in lower case",
            "urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        ),
        _text("id", "an id: 1 to 64 of A-Z a-z 0-9 - .", _ID),
        _text("code", "a code without spaces around or doubled inside", f"{_URI}(?: {_URI})*"),
        _text("base64Binary", "base64", _BASE64),
        _text("date", "a date that exists: YYYY, YYYY-MM or YYYY-MM-DD", _DATE),
        _text(
            "dateTime",
            "a date that exists, or one with a time and zone: YYYY-MM-DDThh:mm:ss+zz:zz",
            f"(?:{_DATE}|{_INSTANT})",
        ),
        _text("instant", "a moment with its zone: YYYY-MM-DDThh:mm:ss+zz:zz", _INSTANT),
        _text("time", "a time: hh:mm:ss", _TIME),
    )
}
